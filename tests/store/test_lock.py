"""ProjectLock: one window writes; the others are told which, and take over from one that is gone."""

import errno
import json
import os
import socket
import time

import pytest

from napari_unet.store import lock as lock_module
from napari_unet.store.files import FileSystem
from napari_unet.store.lock import STALE, Holder, ProjectLock


class NoLocks(FileSystem):
    """A disk that has no locks, as some network shares."""

    def lock(self, path):
        """Say so."""
        raise OSError(errno.ENOLCK, "no locks")


def claim(folder, **kwargs):
    """Leave a `lock.json` as another window would."""
    values = {"host": "lab-pc", "pid": 1, "since": time.time(), "seen": time.time(), **kwargs}
    (folder / "lock.json").write_text(json.dumps(values))


def test_the_second_window_is_told_who_has_it(tmp_path):
    """A second lock says host and time in one sentence; after the first is released it can be had."""
    first, second = ProjectLock(tmp_path, FileSystem()), ProjectLock(tmp_path, FileSystem())
    assert first.take() == ""
    since = time.strftime("%H:%M", time.localtime(json.loads((tmp_path / "lock.json").read_text())["since"]))
    who = f"(on {socket.gethostname()}, since {since})"
    assert second.take() == f"Another window has this project open {who}. It opens here for reading only."
    second.release()
    assert (tmp_path / "lock.json").exists()
    first.release()
    assert not (tmp_path / "lock.json").exists()
    assert second.take() == ""
    second.release()


def test_a_day_is_named_if_it_is_not_today():
    """A project that was opened days ago says the day."""
    since = time.mktime((2024, 3, 2, 10, 12, 0, 0, 0, -1))
    assert "since 2024-03-02 10:12" in Holder("lab-pc", 1, since, since).sentence


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"host": 1}', b'{"host": "x", "pid": "y"}', b"\xff" * 9000])
def test_a_damaged_note_of_the_holder_is_no_obstacle(tmp_path, content):
    """Where `lock.json` makes no sense the system's lock alone decides."""
    (tmp_path / "lock.json").write_bytes(content)
    first, second = ProjectLock(tmp_path, FileSystem()), ProjectLock(tmp_path, FileSystem())
    assert first.take() == ""
    (tmp_path / "lock.json").write_bytes(content)
    assert second.take() == "Another window has this project open. It opens here for reading only."
    first.release()


def test_a_name_of_a_host_cannot_break_the_sentence(tmp_path):
    """Control characters and great length in a stranger's `lock.json` are left out."""
    claim(tmp_path, host="a\n\x1b[31mb" + "c" * 500)
    sentence = ProjectLock(tmp_path, FileSystem()).take()
    assert sentence.isprintable()
    assert len(sentence) < 200


def test_a_dead_window_of_this_machine_is_taken_over(tmp_path):
    """The system's lock ends with its process, so whatever `lock.json` says of this machine is old."""
    claim(tmp_path, host=socket.gethostname(), pid=os.getppid())
    lock = ProjectLock(tmp_path, FileSystem())
    assert lock.take() == ""
    lock.release()


@pytest.mark.parametrize(("age", "is_held"), [(10.0, True), (STALE + 10, False), (-10.0, True), (-STALE - 10, False)])
def test_a_window_on_another_machine_counts_while_it_shows_life(tmp_path, age, is_held):
    """A share may not tell us of another machine's lock; its sign of life does, as long as it is young."""
    claim(tmp_path, seen=time.time() - age)
    lock = ProjectLock(tmp_path, FileSystem())
    assert bool(lock.take()) == is_held
    assert is_held == (json.loads((tmp_path / "lock.json").read_text())["host"] == "lab-pc")
    lock.release()
    other = ProjectLock(tmp_path, FileSystem())
    assert bool(other.take()) == is_held
    other.release()


@pytest.mark.parametrize(
    ("pid", "is_held"),
    [(os.getppid(), True), (os.getpid(), False), (2**22 + 7, False), (-1, False), (0, False), (2**70, False)],
)
@pytest.mark.skipif(os.name == "nt", reason="Windows always has locks")
def test_without_locks_a_living_process_counts(tmp_path, pid, is_held):
    """On a disk without locks the process named in `lock.json` decides, and no number in it does harm."""
    claim(tmp_path, host=socket.gethostname(), pid=pid)
    assert bool(ProjectLock(tmp_path, NoLocks()).take()) == is_held


def test_a_folder_that_cannot_be_written_says_so(tmp_path):
    """A read-only folder opens for reading, and the sentence says why."""

    class ReadOnly(FileSystem):
        def lock(self, path):
            raise OSError(errno.EROFS, "read only")

    assert "cannot be written" in ProjectLock(tmp_path, ReadOnly()).take()


def test_signs_of_life_are_renewed(tmp_path, monkeypatch):
    """A refresh writes at most once a minute, and not after the release."""
    lock = ProjectLock(tmp_path, FileSystem())
    lock.take()
    first = (tmp_path / "lock.json").read_bytes()
    lock.refresh()
    assert (tmp_path / "lock.json").read_bytes() == first
    later = time.time() + 100
    monkeypatch.setattr(lock_module.time, "time", lambda: later)
    lock.refresh()
    values = json.loads((tmp_path / "lock.json").read_bytes())
    assert values["seen"] == later
    assert values["since"] == json.loads(first)["since"]
    lock.release()
    lock.refresh()
    assert not (tmp_path / "lock.json").exists()


def test_a_full_disk_does_not_keep_a_project_closed(tmp_path):
    """The note is a courtesy: if it cannot be written, the lock is taken all the same."""

    class Full(FileSystem):
        def write(self, fd, data):
            raise OSError(errno.ENOSPC, "full")

    lock = ProjectLock(tmp_path, Full())
    assert lock.take() == ""
    assert ProjectLock(tmp_path, FileSystem()).take().startswith("Another window")
    lock.release()
