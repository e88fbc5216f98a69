"""FileSystem: a write leaves the old file or the new one, whatever happens on the way."""

import errno
import itertools
import os
import stat
import subprocess
import sys
import time

import pytest

from napari_unet.core.errors import ProjectError
from napari_unet.store import files as files_module
from napari_unet.store.files import FileSystem

OLD, NEW = b"old content, a little longer than the new", b"new content"


def test_what_is_written_is_read(tmp_path):
    """A file comes back as it was written, and no temporary file stays."""
    files = FileSystem()
    files.write_atomic(tmp_path / "a", OLD)
    files.write_atomic(tmp_path / "a", NEW)
    files.write_new(tmp_path / "b", b"")
    assert files.read(tmp_path / "a", 100) == NEW
    assert files.read(tmp_path / "b", 100) == b""
    assert files.names(tmp_path) == ["a", "b"]


def test_a_new_file_never_overwrites(tmp_path):
    """Where the name is taken, the file that is there stays, and the error says so."""
    files = FileSystem()
    files.write_new(tmp_path / "a", OLD)
    with pytest.raises(ProjectError, match="nothing is ever overwritten") as caught:
        files.write_new(tmp_path / "a", NEW)
    assert isinstance(caught.value.__cause__, FileExistsError)
    assert files.read(tmp_path / "a", 100) == OLD
    assert files.names(tmp_path) == ["a"]


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP, errno.EMLINK])
def test_a_disk_without_links_takes_new_files_too(tmp_path, faulty, code):
    """Where a second name cannot be given, the file is renamed, and still nothing is overwritten."""

    class NoLinks(FileSystem):
        def link(self, source, target):
            raise OSError(code, "no links here")

    NoLinks().write_new(tmp_path / "a", OLD)
    with pytest.raises(ProjectError, match="nothing is ever overwritten"):
        NoLinks().write_new(tmp_path / "a", NEW)
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == OLD


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_a_temporary_file_is_private_and_the_finished_one_is_like_others(tmp_path, monkeypatch):
    """Nobody else reads a half-written file; its name cannot be foreseen; the finished one follows the umask."""
    seen = []

    class Watching(FileSystem):
        def sync(self, fd):
            (name,) = [n for n in os.listdir(tmp_path) if n.endswith(".tmp")]
            seen.append(name)

        def permit(self, fd):
            seen.append(stat.S_IMODE(os.fstat(fd).st_mode))
            super().permit(fd)

    monkeypatch.setattr(files_module, "UMASK", 0o027)
    for name in ("a", "b"):
        Watching().write_atomic(tmp_path / name, NEW)
    assert seen[0] == seen[2] == 0o600
    assert seen[1] != seen[3]
    assert len(seen[1]) > 16
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_only_plain_files_of_bounded_size_are_read(tmp_path):
    """A larger file, a folder, a pipe and a link are refused, each at once and in words."""
    files = FileSystem()
    (tmp_path / "large").write_bytes(b"x" * 101)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ProjectError, match="101 bytes"):
        files.read(tmp_path / "large", 100)
    with pytest.raises(ProjectError):
        files.read(tmp_path / "folder", 100)
    with pytest.raises(ProjectError, match="it is not there"):
        files.read(tmp_path / "none", 100)
    if os.name != "nt":
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "link").symlink_to(tmp_path / "large")
        with pytest.raises(ProjectError, match="no plain file"):
            files.read(tmp_path / "pipe", 100)
        with pytest.raises(ProjectError, match="a link to somewhere else"):
            files.read(tmp_path / "link", 1000)


def test_leftovers_go_when_they_are_old(tmp_path):
    """Temporary files of writers that died are removed after a while; younger ones and others stay."""
    for name in (".0123.tmp", ".4567.tmp", "mine.tmp", ".keep"):
        (tmp_path / name).write_bytes(b"")
    long_ago = time.time() - 2 * files_module.LEFTOVER_AGE
    for name in (".0123.tmp", "mine.tmp", ".keep"):
        os.utime(tmp_path / name, (long_ago, long_ago))
    FileSystem().remove_leftovers(tmp_path)
    assert FileSystem().names(tmp_path) == [".4567.tmp", ".keep", "mine.tmp"]


def test_damaged_files_are_all_kept(tmp_path):
    """Setting aside a second damaged file of one name keeps the first."""
    files = FileSystem()
    for content in (b"1", b"2", b"3"):
        (tmp_path / "a").write_bytes(content)
        files.set_aside(tmp_path / "a")
    assert sorted(path.read_bytes() for path in tmp_path.iterdir()) == [b"1", b"2", b"3"]
    assert all(path.name.endswith(".damaged") for path in tmp_path.iterdir())


def test_a_busy_file_is_tried_again(tmp_path, monkeypatch):
    """Where a virus scanner holds a file for a moment (Windows), the rename is repeated."""
    waits, real = [], os.replace

    class BusyError(PermissionError):
        winerror = 32

    def busy(source, target):
        if len(waits) < 3:
            raise BusyError(errno.EACCES, "in use")
        real(source, target)

    monkeypatch.setattr(files_module.os, "replace", busy)
    monkeypatch.setattr(files_module.time, "sleep", waits.append)
    FileSystem().write_atomic(tmp_path / "a", NEW)
    assert len(waits) == 3
    assert (tmp_path / "a").read_bytes() == NEW


def test_folders_are_made_and_reported_safe(tmp_path, faulty):
    """Each new folder is followed by a sync of the one that holds it."""
    files = faulty()
    files.make_folder(tmp_path / "a" / "b")
    assert files.calls == ["mkdir", "sync_folder", "mkdir", "sync_folder"]
    assert (tmp_path / "a" / "b").is_dir()


def test_a_disk_that_takes_nothing_and_says_nothing_is_told(tmp_path):
    """A write of no bytes is an error, not an endless loop."""

    class Deaf(FileSystem):
        def write(self, fd, data):
            return 0

    with pytest.raises(ProjectError, match="reports a fault"):
        Deaf().write_atomic(tmp_path / "a", NEW)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("code", "passes"), [(errno.EINVAL, True), (errno.ENOTSUP, True), (errno.EIO, False)])
@pytest.mark.skipif(os.name == "nt", reason="Windows does not sync folders")
def test_only_a_disk_that_cannot_sync_folders_is_excused(tmp_path, monkeypatch, code, passes):
    """A share that knows no sync of folders can be used; a fault during one is told."""
    real = os.fsync

    def fsync(fd):
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(code, "folder")
        real(fd)

    monkeypatch.setattr(files_module.os, "fsync", fsync)
    if passes:
        FileSystem().write_atomic(tmp_path / "a", NEW)
    else:
        with pytest.raises(ProjectError, match="reports a fault"):
            FileSystem().write_atomic(tmp_path / "a", NEW)
    assert (tmp_path / "a").read_bytes() == NEW


def test_a_disk_without_permissions_is_written(tmp_path, monkeypatch):
    """Where permissions cannot be set (FAT, some shares), the file is saved all the same."""

    def refuse(fd, mode):
        raise PermissionError(errno.EPERM, "no permissions here")

    monkeypatch.setattr(files_module.os, "fchmod", refuse, raising=False)
    FileSystem().write_atomic(tmp_path / "a", NEW)
    assert (tmp_path / "a").read_bytes() == NEW


def test_on_windows_new_files_are_renamed_and_folders_not_synced(tmp_path, monkeypatch):
    """There a rename refuses a taken name by itself, and a folder cannot be opened."""
    renames = []

    def rename(source, target):
        renames.append(target)
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, "exists")
        os.replace(source, target)

    def refuse(*args):
        raise AssertionError("not on Windows")

    monkeypatch.setattr(files_module.os, "rename", rename)
    monkeypatch.setattr(files_module.os, "link", refuse)
    with monkeypatch.context() as windows:
        windows.setattr(sys, "platform", "win32")
        FileSystem().write_new(tmp_path / "a", OLD)
        with pytest.raises(ProjectError, match="nothing is ever overwritten"):
            FileSystem().write_new(tmp_path / "a", NEW)
    assert renames == [tmp_path / "a"] * 2
    assert (tmp_path / "a").read_bytes() == OLD


@pytest.mark.parametrize("is_known", [True, False])
def test_on_macos_the_drive_itself_is_flushed(tmp_path, monkeypatch, is_known):
    """There fsync leaves the bytes in the drive's cache; a share that does not know better gets an fsync."""
    fcntl = pytest.importorskip("fcntl")
    asked, synced = [], []

    def ask(fd, command):
        asked.append(command)
        if not is_known:
            raise OSError(errno.ENOTSUP, "unknown")

    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", ask)
    monkeypatch.setattr(files_module.os, "fsync", synced.append)
    with monkeypatch.context() as mac:
        mac.setattr(sys, "platform", "darwin")
        FileSystem().sync(7)
    assert asked == [51]
    assert synced == ([] if is_known else [7])


# Every operation fails, in every way ----------------------------------------------------------------

ERRORS = [errno.ENOSPC, errno.EIO, errno.EACCES, "short"]


@pytest.mark.parametrize("for_ever", [False, True], ids=["once", "for ever"])
@pytest.mark.parametrize("error", ERRORS, ids=str)
@pytest.mark.parametrize("way", ["write_atomic", "write_new"])
def test_a_failed_write_leaves_the_old_file_and_says_so(tmp_path, faulty, way, error, for_ever):
    """If step n fails, for every n: an error in words or the new file; the old one is whole; later it works."""
    target = tmp_path / "a"
    for number in itertools.count():
        files = faulty(number, error, for_ever)
        target.unlink(missing_ok=True)
        if way == "write_atomic":
            target.write_bytes(OLD)
        told = None
        try:
            getattr(files, way)(target, NEW)
        except ProjectError as caught:
            told = caught
        assert told is None or "could not be saved" in str(told)
        assert told is None or isinstance(told.__cause__, OSError)
        found = target.read_bytes() if target.exists() else None
        assert found in ((OLD, NEW) if way == "write_atomic" else (None, NEW))
        if told is None:
            assert found == NEW
        was_reached = len(files.calls) > number
        files.mend()
        target.unlink(missing_ok=True)
        getattr(files, way)(target, NEW)
        assert target.read_bytes() == NEW
        if not was_reached:
            break
    assert number >= 7


@pytest.mark.parametrize("way", ["write_atomic", "write_new"])
def test_a_process_that_dies_at_any_step_leaves_old_or_new(tmp_path, faulty, way):
    """For every n: if the process ends at step n, the file is the old one or the new one."""
    target = tmp_path / "a"
    for number in range(12):
        target.unlink(missing_ok=True)
        if way == "write_atomic":
            target.write_bytes(OLD)
        files = faulty(number, faulty.Died, for_ever=True)
        try:
            getattr(files, way)(target, NEW)
        except faulty.Died:
            found = target.read_bytes() if target.exists() else None
            assert found in ((OLD, NEW) if way == "write_atomic" else (None, NEW))
        else:
            assert target.read_bytes() == NEW
    assert len(files.calls) < 12


@pytest.mark.skipif(os.name == "nt", reason="a limit of the system that Windows does not have")
def test_a_real_limit_of_the_system_is_told_in_words(tmp_path):
    """With a real limit on file sizes the write fails in words, and the old file is whole."""
    program = """
import resource, signal, sys
from pathlib import Path
from napari_unet.core.errors import ProjectError
from napari_unet.store.files import FileSystem
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
FileSystem().write_atomic(Path(sys.argv[1]), b"old")
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
try:
    FileSystem().write_atomic(Path(sys.argv[1]), b"x" * 100_000)
except ProjectError as error:
    assert "larger than this disk allows" in str(error), error
else:
    raise SystemExit("no error")
FileSystem().write_atomic(Path(sys.argv[1] + "2"), b"works again")
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "a")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a2"]


@pytest.mark.parametrize("code", sorted(files_module.SENTENCES))
def test_every_error_of_a_disk_says_what_to_do(tmp_path, code):
    """The sentence names the file, the cause in words, and no number or class."""
    said = str(files_module.explain(OSError(code, "E"), "saved", tmp_path / "cells.npz"))
    assert said.startswith(f"'cells.npz' in {tmp_path} could not be saved: ")
    assert "Errno" not in said
    assert said.endswith("What was saved before is safe.")
