"""ProjectLock: one window writes, the others are told which one.

The system's lock on the file `lock` decides; it ends with its process, however that ends. `lock.json`
only says who it is. Where a disk has no such locks (some network shares), `lock.json` alone decides, as well
as it can. Corrections are safe even with two writers, because no file of theirs is ever changed.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import Timeout

from napari_unet.core.errors import ProjectError
from napari_unet.store.files import FileSystem

LOCK, HOLDER = "lock", "lock.json"
HOLDER_LIMIT = 4096  # bytes
REFRESH = 60.0  # seconds between signs of life
STALE = 300.0  # seconds without one, after which a window on another machine counts as gone
NO_WRITE = (errno.EACCES, errno.EPERM, errno.EROFS)


@dataclass(frozen=True)
class Holder:
    """A window that has a project open.

    Attributes
    ----------
    host : str
    pid : int
    since : float
        When it opened the project, in seconds since the epoch.
    seen : float
        Its last sign of life.
    """

    host: str
    pid: int
    since: float
    seen: float

    @property
    def sentence(self) -> str:
        """What the second window says."""
        # the day only where it is not today
        same_day = time.strftime("%x", time.localtime(self.since)) == time.strftime("%x")
        since = time.strftime("%H:%M" if same_day else "%Y-%m-%d %H:%M", time.localtime(self.since))
        return f"Another window has this project open (on {self.host}, since {since}). It opens here for reading only."

    @property
    def is_alive(self) -> bool:
        """Whether it still runs, as far as can be told without the system's lock."""
        if self.host == socket.gethostname() and os.name != "nt":
            return self.pid != os.getpid() and _runs(self.pid)
        return abs(time.time() - self.seen) < STALE


class ProjectLock:
    """The right to write into a project folder.

    Parameters
    ----------
    folder : Path
    files : FileSystem
    """

    def __init__(self, folder: Path, files: FileSystem) -> None:
        self._folder = folder
        self._files = files
        self._release: Callable[[], object] | None = None
        self._holder: Holder | None = None

    def take(self) -> str:
        """Take the lock, from a window that is gone if need be.

        Returns
        -------
        str
            '' if it is ours; else why it is not, as a sentence.
        """
        system_decides = True
        try:
            self._release = self._files.lock(self._folder / LOCK)
        except Timeout:
            other = self._read()
            return other.sentence if other else "Another window has this project open. It opens here for reading only."
        except (OSError, NotImplementedError) as error:
            if isinstance(error, OSError) and error.errno in NO_WRITE:
                return f"The folder {self._folder} cannot be written, so it opens for reading only. Copy it to go on."
            system_decides = False
        other = self._read()
        # a machine elsewhere may not share its locks with us; one that does, or that died, left an old sign of life
        ours_to_judge = other is not None and (not system_decides or other.host != socket.gethostname())
        if other is not None and ours_to_judge and other.is_alive:
            self._let_go()
            return other.sentence
        now = time.time()
        self._holder = Holder(socket.gethostname(), os.getpid(), now, now)
        self._write(self._holder)
        return ""

    def refresh(self) -> None:
        """Give a sign of life, at most once a minute."""
        if self._holder and time.time() - self._holder.seen > REFRESH:
            self._holder = Holder(self._holder.host, self._holder.pid, self._holder.since, time.time())
            self._write(self._holder)

    def release(self) -> None:
        """Let the next window write."""
        if self._holder:
            self._holder = None
            with suppress(ProjectError):  # a leftover of ours is taken over anyway
                self._files.remove(self._folder / HOLDER)
        self._let_go()

    def _let_go(self) -> None:
        if self._release:
            self._release()
            self._release = None

    def _write(self, holder: Holder) -> None:
        # a full disk must not keep a project from opening: the next save will say it
        with suppress(ProjectError):
            self._files.write_atomic(self._folder / HOLDER, json.dumps(asdict(holder)).encode())

    def _read(self) -> Holder | None:
        """Who says to hold it; None if nobody does, or it cannot be read."""
        try:
            values = json.loads(self._files.read(self._folder / HOLDER, HOLDER_LIMIT))
            host = "".join(c for c in str(values["host"]) if c.isprintable())[:64]
            holder = Holder(host, int(values["pid"]), float(values["since"]), float(values["seen"]))
            time.localtime(holder.since)  # not every number is a time
        except (ProjectError, ValueError, TypeError, KeyError, OverflowError, OSError, RecursionError):
            return None
        return holder


def _runs(pid: int) -> bool:
    """Whether a process of this machine runs (not on Windows, where asking would end it)."""
    if not 0 < pid < 2**31:
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True  # another user's
    except OSError:
        return False
    return True
