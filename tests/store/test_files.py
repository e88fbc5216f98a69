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


# Every operation fails, in every way ----------------------------------------------------------------

ERRORS = [errno.ENOSPC, errno.EIO, errno.EACCES, "short"]


@pytest.mark.parametrize("for_ever", [False, True], ids=["once", "for ever"])
@pytest.mark.parametrize("error", ERRORS, ids=str)
@pytest.mark.parametrize("way", ["write_atomic", "write_new"])
def test_a_failed_write_leaves_the_old_file_and_says_so(tmp_path, faulty, way, error, for_ever):
    """For every n: if step n fails, there is an error in words or the new file; what was there is whole; later it works."""
    target = tmp_path / "a"
    for number in itertools.count():
        files = faulty(number, error, for_ever)
        target.unlink(missing_ok=True)
        if way == "write_atomic":
            target.write_bytes(OLD)
        try:
            getattr(files, way)(target, NEW)
            succeeded = True
        except ProjectError as told:
            succeeded = False
            assert "could not be saved" in str(told)
            assert isinstance(told.__cause__, OSError)
        found = target.read_bytes() if target.exists() else None
        assert found in ((OLD, NEW) if way == "write_atomic" else (None, NEW))
        if succeeded:
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


# Power cuts ------------------------------------------------------------------------------------------


class Notes(FileSystem):
    """A disk that writes down what is asked of it, and in which order."""

    def __init__(self, forgets=()):
        self.ops, self.open, self.forgets = [], {}, forgets

    def create(self, path):
        fd = super().create(path)
        self.open[fd] = path.name
        self.ops.append(("create", path.name))
        return fd

    def write(self, fd, data):
        # in two pieces, so that a half-written file is one of the states
        count = super().write(fd, data[: max(1, len(data) // 2)])
        self.ops.append(("write", self.open[fd], bytes(data[:count])))
        return count

    def sync(self, fd):
        if "sync" not in self.forgets:
            self.ops.append(("fsync", self.open[fd]))

    def replace(self, source, target):
        super().replace(source, target)
        self.ops.append(("rename", source.name, target.name))

    def link(self, source, target):
        super().link(source, target)
        self.ops.append(("link", source.name, target.name))

    def unlink(self, path):
        super().unlink(path)
        self.ops.append(("unlink", path.name))

    def sync_folder(self, folder):
        if "sync_folder" not in self.forgets:
            self.ops.append(("fsyncdir",))


def renamed(names, change):
    """The names in a folder after one change to them, if it can be made."""
    kind, name, *other = change
    if kind == "new":
        return {**names, name: other[0]}
    if name not in names:
        return names
    rest = {key: value for key, value in names.items() if key != name}
    if kind == "rename":
        return {**rest, other[0]: names[name]}
    return {**names, other[0]: names[name]} if kind == "link" else rest


def crash_states(ops, old):
    """Every content a folder may have after a power cut, as (acknowledged, {name: bytes}).

    At any moment, bytes that were not synced are there, half there, or not; changes of names that were not
    synced have happened, each or not, in their order.
    """
    for moment in range(len(ops) + 1):
        synced, current = dict(enumerate(old.values())), dict(enumerate(old.values()))
        names = {name: number for number, name in enumerate(old)}
        safe, pending, acked = dict(names), [], moment == len(ops)
        for op, *args in ops[:moment]:
            if op == "create":
                number = len(current)
                synced[number] = current[number] = b""
                names[args[0]] = number
                pending.append(("new", args[0], number))
            elif op == "write":
                current[names[args[0]]] += args[1]
            elif op == "fsync":
                synced[names[args[0]]] = current[names[args[0]]]
            elif op == "fsyncdir":
                safe, pending = dict(names), []
            else:
                names = renamed(names, (op, *args))
                pending.append((op, *args))
        for count in range(len(pending) + 1):
            for happened in itertools.combinations(pending, count):
                after = dict(safe)
                for change in happened:
                    after = renamed(after, change)
                choices = [
                    {synced[n], current[n], current[n][: len(current[n]) // 2], b""}
                    if synced[n] != current[n]
                    else {synced[n]}
                    for n in after.values()
                ]
                for contents in itertools.product(*choices):
                    yield acked, dict(zip(after, contents, strict=True))


def verdict(way, folder, forgets=()):
    """Number of states, and of those that lose: neither old nor new, or not new though acknowledged."""
    notes = Notes(forgets)
    old = {"a": OLD} if way == "write_atomic" else {}
    for name, content in old.items():
        (folder / name).write_bytes(content)
    getattr(notes, way)(folder / "a", NEW)
    states, torn, lost = 0, 0, 0
    for acked, content in crash_states(notes.ops, old):
        states += 1
        torn += content.get("a") not in (old.get("a"), NEW)
        lost += acked and content.get("a") != NEW
    return states, torn, lost


@pytest.mark.parametrize("way", ["write_atomic", "write_new"])
def test_no_power_cut_tears_a_file_or_loses_an_acknowledged_one(tmp_path, way):
    """In every legal state after a power cut the file is old or new, and new once the write has returned."""
    states, torn, lost = verdict(way, tmp_path)
    assert states > 10
    assert (torn, lost) == (0, 0)


@pytest.mark.parametrize("forgets", ["sync", "sync_folder"])
@pytest.mark.parametrize("way", ["write_atomic", "write_new"])
def test_the_enumeration_finds_a_missing_sync(tmp_path, way, forgets):
    """A writer that forgets to sync the file, or the folder, is caught: the test above can fail."""
    _, torn, lost = verdict(way, tmp_path, forgets=(forgets,))
    assert torn + lost > 0
