"""FileSystem: the one seam between a project and the disk. Nothing else in this folder opens a file to write."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from napari_unet.core.errors import ProjectError, check_type

LEFTOVER = ".tmp"
DAMAGED = ".damaged"
LEFTOVER_AGE = 3600.0  # seconds; a slow share may take minutes over one large model
BUSY = (5, 32, 33)  # Windows: access denied, sharing violation, lock violation
BUSY_PAUSES = (0.01, 0.05, 0.1, 0.2, 0.4)  # seconds
# what file systems answer that have no hard links (FAT, many network shares)
NO_LINKS = (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)

SENTENCES = {
    errno.ENOSPC: "the disk is full. Free some space, or save elsewhere",
    errno.EDQUOT: "your quota on this disk is used up. Free some space, or save elsewhere",
    errno.EROFS: "this disk can only be read. Save the project elsewhere",
    errno.EACCES: "you may not do that in this folder. Ask for the permission, or save elsewhere",
    errno.EPERM: "you may not do that in this folder. Ask for the permission, or save elsewhere",
    errno.EIO: "the disk or the network share reports a fault. Check it, or save elsewhere",
    errno.ENOENT: "it is not there. Was the folder moved, renamed or unplugged? Open the project again",
    errno.ENOTDIR: "a part of the path is no folder. Open the project again from where it is now",
    errno.EEXIST: "a file of that name is there already, and nothing is ever overwritten. Try again",
    errno.ELOOP: "it is a link to somewhere else, and a project holds plain files only. Put the file itself there",
    errno.ENAMETOOLONG: "its path is too long. Move the project nearer to the root of the disk",
    errno.ESTALE: "the network share lost it. Connect the share again",
    errno.ETIMEDOUT: "the network share does not answer. Connect it again",
    errno.EFBIG: "the file would be larger than this disk allows. Save the project elsewhere",
}


def _read_umask() -> int:
    """The permissions that this process takes from new files; asking means setting, so it is asked once, at import."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


UMASK = _read_umask()


def folder_of(path: Path | str) -> Path:
    """The folder that a caller names, as an absolute path."""
    check_type(path, str | os.PathLike, "Give the folder of a project: 'cells.unetproj'.")
    return Path(os.path.abspath(path))


def explain(error: OSError, doing: str, path: Path) -> ProjectError:
    """The sentence for a failed operation.

    Parameters
    ----------
    error : OSError
        What the system said.
    doing : str
        What was tried, as a participle: 'saved', 'read'.
    path : Path
        What it was tried on.
    """
    words = SENTENCES.get(error.errno or 0, f"the system says: {error.strerror or error}. Try again, or save elsewhere")
    return ProjectError(f"'{path.name}' in {path.parent} could not be {doing}: {words}. What was saved before is safe.")


@contextmanager
def in_words(doing: str, path: Path) -> Iterator[None]:
    """Turn an OSError inside into the ProjectError that a user reads; the OSError stays its cause."""
    try:
        yield
    except OSError as error:
        raise explain(error, doing, path) from error


def _aside(path: Path) -> Path:
    """A free name for a damaged file."""
    aside, number = path.with_name(path.name + DAMAGED), 1
    while os.path.lexists(aside):
        number += 1
        aside = path.with_name(f"{path.name}.{number}{DAMAGED}")
    return aside


class FileSystem:
    """Reads and writes whole files, so that a crash at any moment leaves the old file or the new one.

    Every write is: temporary name in the same folder, write, fsync, rename, fsync of the folder. Only
    after the last of these a write returns. A write that raises may be repeated: the file is then the
    old one or the new one, whole.

    The methods below "Single steps" are one system call each. Tests replace them by ones that fail,
    record or stop.
    """

    def write_atomic(self, path: Path, data: bytes) -> None:
        """Write a file, or replace it.

        Raises
        ------
        ProjectError
            If it cannot be written.
        """
        with in_words("saved", path):
            self._write(path, data, self.replace)

    def write_new(self, path: Path, data: bytes) -> None:
        """Write a file that is not there yet; an existing one is never touched.

        Raises
        ------
        ProjectError
            If it cannot be written; caused by a FileExistsError if the name is taken.
        """
        with in_words("saved", path):
            self._write(path, data, self.place)

    def read(self, path: Path, limit: int) -> bytes:
        """The bytes of a plain file of at most `limit` bytes.

        Raises
        ------
        ProjectError
            If it cannot be read (caused by the OSError), is a link or no plain file, or is larger.
        """
        with in_words("read", path):
            fd = self.open_plain(path)
            with os.fdopen(fd, "rb") as file:
                size = os.fstat(fd).st_size
                if size > limit:
                    raise ProjectError(f"'{path.name}' has {size} bytes; more than {limit} are not read. Remove it.")
                return file.read(limit)

    def names(self, folder: Path) -> list[str]:
        """Names in a folder, sorted; none if there is no such folder."""
        try:
            return sorted(self.scan(folder))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise explain(error, "read", folder) from error

    def make_folder(self, folder: Path) -> None:
        """Make a folder and those above it; returns when they would outlive a power cut."""
        if folder.is_dir():
            return
        self.make_folder(folder.parent)
        with in_words("made", folder):
            with suppress(FileExistsError):
                self.mkdir(folder)
            self.sync_folder(folder.parent)

    def set_aside(self, path: Path) -> Path:
        """Rename a damaged file so that it is kept but no longer read; its new path.

        Raises
        ------
        ProjectError
            If it cannot be renamed.
        """
        aside = _aside(path)
        with in_words("set aside", path):
            self.replace(path, aside)
            self.sync_folder(path.parent)
        return aside

    def copy_aside(self, path: Path, limit: int) -> Path:
        """Copy a damaged file of at most `limit` bytes, before it is replaced; the path of the copy.

        Raises
        ------
        ProjectError
            If it cannot be copied.
        """
        aside = _aside(path)
        self.write_new(aside, self.read(path, limit))
        return aside

    def remove(self, path: Path) -> None:
        """Delete a file; one that is gone already is fine."""
        with in_words("deleted", path), suppress(FileNotFoundError):
            self.unlink(path)

    def remove_leftovers(self, folder: Path, age: float = LEFTOVER_AGE) -> None:
        """Delete what writers that died have left in a folder more than `age` seconds ago."""
        for name in self.names(folder):
            path = folder / name
            if not (name.startswith(".") and name.endswith(LEFTOVER)):
                continue
            # another window may clear up at the same time, and a leftover that stays does no harm
            with suppress(OSError):
                info = path.lstat()
                if stat.S_ISREG(info.st_mode) and time.time() - info.st_mtime >= age:
                    self.unlink(path)

    def _write(self, path: Path, data: bytes, place: Callable[[Path, Path], None]) -> None:
        temporary = path.with_name(f".{secrets.token_hex(8)}{LEFTOVER}")
        fd = self.create(temporary)
        try:
            try:
                self._write_all(fd, data)
                self.permit(fd)
                self.sync(fd)
            finally:
                self.close(fd)  # a network share may report here that the data did not arrive
            place(temporary, path)
        except BaseException:
            with suppress(OSError):  # the first error is the one to tell
                self.unlink(temporary)
            raise
        self.sync_folder(path.parent)

    def _write_all(self, fd: int, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            written = self.write(fd, rest)
            if written <= 0:
                raise OSError(errno.EIO, "nothing was written")
            rest = rest[written:]

    # Single steps ------------------------------------------------------------------------------

    def create(self, path: Path) -> int:
        """Open a new file to write, readable by its owner alone; the file descriptor."""
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
        flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        return os.open(path, flags, 0o600)

    def write(self, fd: int, data: memoryview) -> int:
        """Write some of `data`; the number of bytes written."""
        return os.write(fd, data)

    def permit(self, fd: int) -> None:
        """Give a finished file the permissions that the user's new files have."""
        if sys.platform != "win32":
            with suppress(PermissionError):  # FAT and some shares have no permissions to set
                os.fchmod(fd, 0o666 & ~UMASK)

    def sync(self, fd: int) -> None:
        """Return when the file's bytes would outlive a power cut."""
        if sys.platform == "darwin":
            import fcntl

            # fsync alone leaves the data in the drive's cache on macOS; shares do not know F_FULLFSYNC
            with suppress(OSError):
                fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
                return
        os.fsync(fd)

    def close(self, fd: int) -> None:
        """Close a file descriptor."""
        os.close(fd)

    def replace(self, source: Path, target: Path) -> None:
        """Rename, over an existing file if there is one."""
        for pause in BUSY_PAUSES:
            try:
                os.replace(source, target)
            except PermissionError as error:
                # Windows: a virus scanner, a sync client or a reader has the file open for a moment
                if getattr(error, "winerror", None) not in BUSY:
                    raise
                time.sleep(pause)
            else:
                return
        os.replace(source, target)

    def place(self, source: Path, target: Path) -> None:
        """Rename to a name that is free.

        Raises
        ------
        FileExistsError
            If the name is taken.
        """
        if sys.platform == "win32":
            os.rename(source, target)  # raises by itself if the name is taken
            return
        try:
            # a rename would overwrite; a second name cannot
            self.link(source, target)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            # no links here: names hold a time and a checksum, so the moment between these two lines is harmless
            if os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, "exists", str(target)) from error
            self.replace(source, target)
            return
        with suppress(OSError):  # the file is in place; a leftover is removed another day
            self.unlink(source)

    def link(self, source: Path, target: Path) -> None:
        """Give a file a second name."""
        os.link(source, target, follow_symlinks=False)

    def unlink(self, path: Path) -> None:
        """Delete a name."""
        os.unlink(path)

    def mkdir(self, folder: Path) -> None:
        """Make one folder."""
        os.mkdir(folder)

    def scan(self, folder: Path) -> list[str]:
        """Names in a folder."""
        return os.listdir(folder)

    def sync_folder(self, folder: Path) -> None:
        """Return when the names in a folder would outlive a power cut."""
        if sys.platform == "win32":
            return  # Windows cannot open a folder for this; NTFS keeps a journal of names itself
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network shares offer no such thing
                raise
        finally:
            os.close(fd)

    def open_plain(self, path: Path) -> int:
        """Open a plain file to read, never through a link; the file descriptor.

        Raises
        ------
        ProjectError
            If it is a pipe, a device or a folder.
        """
        if path.is_symlink():
            raise OSError(errno.ELOOP, "is a link", str(path))
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        fd = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe must not make us wait
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise ProjectError(f"'{path.name}' in {path.parent} is no plain file. Remove it.")
        return fd

    def lock(self, path: Path) -> Callable[[], object]:
        """Take the system's lock on a file, without waiting; what releases it. A dead process holds none.

        Raises
        ------
        filelock.Timeout
            If another window holds it.
        OSError, NotImplementedError
            If this disk has no locks, or can only be read.
        """
        lock = FileLock(path, timeout=0, thread_local=False)
        lock.acquire()
        return lock.release
