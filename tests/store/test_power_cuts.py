"""Power cuts: every state that a file system may legally leave, for each way of writing."""

import itertools

import pytest

from napari_unet.store.files import FileSystem

OLD, NEW = b"old content, a little longer than the new", b"new content"


class Notes(FileSystem):
    """A disk that writes down what is asked of it, and in which order."""

    def __init__(self, forgets=()):
        self.ops, self.open, self.forgets = [], {}, forgets

    def create(self, path):
        """Note a new file."""
        fd = super().create(path)
        self.open[fd] = path.name
        self.ops.append(("create", path.name))
        return fd

    def write(self, fd, data):
        """Write in pieces, so that a half-written file is one of the states."""
        count = super().write(fd, data[: max(1, len(data) // 2)])
        self.ops.append(("write", self.open[fd], bytes(data[:count])))
        return count

    def sync(self, fd):
        """Note that bytes are safe."""
        if "sync" not in self.forgets:
            self.ops.append(("fsync", self.open[fd]))

    def replace(self, source, target):
        """Note a rename."""
        super().replace(source, target)
        self.ops.append(("rename", source.name, target.name))

    def link(self, source, target):
        """Note a second name."""
        super().link(source, target)
        self.ops.append(("link", source.name, target.name))

    def unlink(self, path):
        """Note that a name is gone."""
        super().unlink(path)
        self.ops.append(("unlink", path.name))

    def sync_folder(self, folder):
        """Note that names are safe."""
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


class Disk:
    """What a disk holds for certain, and what it may hold: bytes and names, each as of the last sync and as of now."""

    def __init__(self, old):
        self.synced, self.current = dict(enumerate(old.values())), dict(enumerate(old.values()))
        self.names = {name: number for number, name in enumerate(old)}
        self.safe, self.pending = dict(self.names), []

    def do(self, op, *args):
        """One operation."""
        number = self.names.get(args[0]) if args else None
        if op == "create":
            number = len(self.current)
            self.synced[number] = self.current[number] = b""
            self.change("new", args[0], number)
        elif op == "write":
            self.current[number] += args[1]
        elif op == "fsync":
            self.synced[number] = self.current[number]
        elif op == "fsyncdir":
            self.safe, self.pending = dict(self.names), []
        else:
            self.change(op, *args)

    def change(self, *change):
        """A change of names, which is safe only after the folder's sync."""
        self.names = renamed(self.names, change)
        self.pending.append(change)

    def after_a_power_cut(self):
        """Every content that the folder may have: unsynced bytes there, half or not; unsynced names changed or not."""
        for happened in subsets(self.pending):
            names = self.safe
            for change in happened:
                names = renamed(names, change)
            choices = [
                {self.synced[n]}
                if self.synced[n] == self.current[n]
                else {self.synced[n], self.current[n], self.current[n][: len(self.current[n]) // 2], b""}
                for n in names.values()
            ]
            for contents in itertools.product(*choices):
                yield dict(zip(names, contents, strict=True))


def subsets(items):
    """Every selection of some items, in their order."""
    return (some for count in range(len(items) + 1) for some in itertools.combinations(items, count))


def crash_states(ops, old):
    """Every content a folder may have after a power cut at any moment, as (acknowledged, {name: bytes})."""
    for moment in range(len(ops) + 1):
        disk = Disk(old)
        for op in ops[:moment]:
            disk.do(*op)
        for content in disk.after_a_power_cut():
            yield moment == len(ops), content


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
