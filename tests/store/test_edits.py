"""One edit, one file: it comes back equal, or is refused; and all of them in order are the picture's state."""

import hashlib
import io
import zipfile
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_unet.core.corrections import Edit
from napari_unet.core.errors import ProjectError
from napari_unet.core.geometry import Box
from napari_unet.core.prompts import Prompts
from napari_unet.store import edits as edits_module
from napari_unet.store.edits import NewerFormatError, decode, encode, file_name, is_key, replay, split, stamp_of

INT32 = np.iinfo(np.int32)


@st.composite
def any_prompts(draw):
    """Clicks on an object and beside it, and perhaps a box."""
    points = st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), max_size=4).map(tuple)
    corners = st.tuples(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6))
    return Prompts(draw(points), draw(points), draw(st.none() | st.builds(Box, corners, corners)))


@st.composite
def any_edit(draw):
    """An edit of one to four axes, anywhere, perhaps empty, perhaps an undo."""
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=6))
    start = draw(st.tuples(*[st.integers(-(10**6), 10**6)] * len(shape)))
    tool = draw(st.sampled_from(["paint", "delete", "join", "accept", "region", "undo"]))
    return Edit(
        picture=draw(st.from_regex(r"[a-z0-9][a-z0-9_-]{0,63}", fullmatch=True).filter(is_key)),
        box=Box(start, tuple(a + n for a, n in zip(start, shape, strict=True))),
        labels=draw(hnp.arrays(np.int32, shape, elements=st.integers(INT32.min, INT32.max))),
        trusted=draw(hnp.arrays(bool, shape)),
        tool=tool,
        held_out=draw(st.booleans()),
        time=draw(st.floats(allow_nan=False, allow_infinity=False)),
        taught=draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, 2))) if tool == "undo" else None,
        right=draw(st.none() | st.floats(0, 1)),
        prompts=draw(st.none() | any_prompts()),
    )


@settings(max_examples=100, derandomize=True)
@given(any_edit())
def test_any_edit_comes_back_equal(edit):
    """What is written is read again, field by field and bit by bit; the same edit gives the same bytes."""
    data = encode(edit)
    found = decode(data)
    assert data == encode(found)
    for name in ("picture", "box", "tool", "held_out", "time", "right", "prompts"):
        assert getattr(found, name) == getattr(edit, name)
    for name in ("labels", "trusted", "taught"):
        mine, theirs = getattr(found, name), getattr(edit, name)
        assert (mine is None) == (theirs is None)
        assert mine is None or (mine.dtype == theirs.dtype and np.array_equal(mine, theirs))
        assert mine is None or mine.flags.writeable


def test_numpy_opens_the_file_without_pickle(make_edit):
    """A user can read a correction with numpy alone."""
    edit = make_edit(1)
    with np.load(io.BytesIO(encode(edit)), allow_pickle=False) as file:
        assert sorted(file) == ["header", "labels", "trusted"]
        assert np.array_equal(file["labels"], edit.labels)
        assert '"picture": "p"' in str(file["header"])


def test_other_whole_numbers_become_int32(make_edit):
    """Labels of another integer type are kept if they fit; others are refused, not changed."""
    edit = make_edit(1)
    assert decode(encode(replace(edit, labels=edit.labels.astype(np.int64)))).labels.dtype == np.int32
    for labels in (edit.labels.astype(np.int64) + 2**40, edit.labels + 0.5):
        with pytest.raises(ProjectError, match="do not fit into int32"):
            encode(replace(edit, labels=labels))


@pytest.mark.parametrize(
    "change",
    [
        {"picture": "../../etc/passwd"},
        {"picture": "/etc/passwd"},
        {"picture": "con"},
        {"picture": "A"},
        {"picture": ""},
        {"picture": "a\0b"},
        {"tool": "Paint!"},
        {"tool": "undo"},
        {"time": float("nan")},
        {"time": float("inf")},
        {"right": 1.5},
        {"right": float("nan")},
        {"prompts": Prompts(((float("nan"), 0.0),))},
        {"prompts": Prompts(((0.0, 2.0**50),))},
        {"prompts": Prompts(box=Box((0, 0), (2**50, 1)))},
        {"box": Box((0, 0), (1, 1))},
        {"box": Box((5, 5), (1, 1))},
        {"box": Box((0,), (400,))},
        {"box": Box((2**50, 0), (2**50 + 1, 1))},
        {"trusted": np.ones((2, 2), np.uint8)},
        {"taught": np.zeros((2, 2), np.uint8)},
        {"tool": "undo", "taught": np.full((2, 2), 3, np.uint8)},
        {"tool": "undo", "taught": np.zeros((2, 3), np.uint8)},
    ],
    ids=lambda change: " ".join(f"{key}={value!r:.20}" for key, value in change.items()),
)
def test_what_contradicts_itself_is_not_written(change):
    """An edit that could not be read back is refused when it is written."""
    edit = Edit("p", Box((0, 0), (2, 2)), np.ones((2, 2), np.int32), np.ones((2, 2), bool))
    with pytest.raises(ProjectError):
        encode(replace(edit, **change))


# Damage --------------------------------------------------------------------------------------------


@pytest.fixture
def data():
    """The file of a small edit."""
    labels = np.arange(12, dtype=np.int32).reshape(3, 4)
    return encode(Edit("p", Box((1, 2), (4, 6)), labels, labels % 2 == 0, time=1.5))


def test_a_truncated_file_is_refused_at_every_length(data):
    """However much of its end is missing, a file is refused in words that name it."""
    for length in range(len(data)):
        with pytest.raises(ProjectError, match=r"'cut\.npz' is damaged"):
            decode(data[:length], "cut.npz")


def test_no_flipped_bit_is_taken_for_the_edit(data, same):
    """One wrong bit anywhere is refused, or lies where nothing is said; the file's name tells all of them apart."""
    edit, name, harmless = decode(data), file_name(7, data), 0
    for position in range(len(data)):
        for bit in (0, 4, 7):
            flipped = bytearray(data)
            flipped[position] ^= 1 << bit
            assert file_name(7, bytes(flipped)) != name
            try:
                found = decode(bytes(flipped), "flipped")
            except ProjectError:
                continue
            harmless += 1
            assert same(found, edit)
    # dates and permissions in the zip's own headers, which we do not read
    assert harmless < len(data)


@settings(max_examples=300, derandomize=True)
@given(noise=st.binary(max_size=200), where=st.integers(0, 700), keep=st.booleans())
def test_noise_is_refused_in_words(noise, where, keep):
    """Random bytes, alone or over a part of a true file, give an edit or a ProjectError, nothing else."""
    true = encode(Edit("p", Box((0,), (3,)), np.arange(3, dtype=np.int32), np.ones(3, bool)))
    mixed = true[:where] + noise + true[where + len(noise) :] if keep else noise
    with suppress(ProjectError):
        assert encode(decode(mixed, "noise"))


def rewritten(data, **members):
    """An archive like `data` with some members replaced (None: left out), in the zip's own good order."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        contents = {name.removesuffix(".npy"): old.read(name) for name in old.namelist()}
        for name, content in {**contents, **members}.items():
            if content is not None:
                new.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def array(values, *, allow_pickle=False):
    """The bytes of a `.npy` file."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(values), allow_pickle=allow_pickle)
    return buffer.getvalue()


def header(shape, descr="<i4", order=False):
    """The first bytes of a `.npy` file that declares anything."""
    text = f"{{'descr': {descr!r}, 'fortran_order': {order}, 'shape': {shape}, }}"
    text += " " * (117 - len(text)) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


# a pickle that would call os.system, as an array of objects holds it
PICKLE = header("(1,)", "|O") + b"cos\nsystem\n(S'touch executed'\ntR."


@pytest.mark.parametrize(
    "members",
    [
        {"labels": PICKLE},
        {"header": PICKLE},
        {"labels": None},
        {"header": None},
        {"trusted": None},
        {"extra": array([1])},
        {"../../evil": array([1])},
        {"labels": header("(100000, 100000, 100000)")},
        {"labels": header("(-1, -12)") + bytes(48)},
        {"labels": header("(3, 4)")},
        {"labels": header("(3, 4)") + bytes(49)},
        {"labels": header("(3, 4)", order=True) + bytes(48)},
        {"labels": header("(3, 4)", "<f4") + bytes(48)},
        {"labels": header("(3, 4)", ">i4") + bytes(48)},
        {"labels": header("(True, 12)") + bytes(48)},
        {"labels": header("(1, 1, 1, 1, 1, 1, 1, 3, 4)") + bytes(48)},
        {"labels": header("(9999999999999999999999,)")},
        {"labels": header("((((((((((1))))))))))")},
        {"labels": b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535},
        {"labels": b"\x93NUMPY\x03\x00\x01\x00\x00\x00 "},
        {"labels": b""},
        {"trusted": header("(3, 4)", "|b1") + bytes([2] * 12)},
        {"header": header("()", "<U0")},
        {"header": array("")},
        {"header": array("[]")},
        {"header": array("null")},
        {"header": array("{}")},
        {"header": array("[" * 10000)},
        {"header": array('{"format": 1}')},
        {"header": array('{"format": 1, "start": 1e999, "stop": []}')},
        {"header": array(["a", "b"])},
        {"header": array("x" * 20000)},
    ],
    ids=lambda members: " ".join(f"{key}={value!r:.40}" for key, value in members.items()),
)
def test_hostile_members_are_refused(data, members, tmp_path, monkeypatch):
    """A valid archive with members that are not ours is refused; nothing in it is run or allocated."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProjectError, match="'evil' is damaged"):
        decode(rewritten(data, **members), "evil")
    assert list(tmp_path.iterdir()) == []


def test_a_bomb_is_refused_before_it_is_unpacked(data):
    """An archive that declares, or hides, far more than a record may have is refused at its declaration."""
    bomb = rewritten(data, labels=bytes(edits_module.RECORD_LIMIT + 1))
    assert len(bomb) < 100_000
    with pytest.raises(ProjectError, match="bytes; 67108864 are allowed"):
        decode(bomb)
    # the same, with a table of contents that lies: one byte declared, 64 MB packed
    place = bomb.index(b"PK\x01\x02")
    while bomb[place + 46 : place + 56] != b"labels.npy":
        place = bomb.index(b"PK\x01\x02", place + 1)
    liar = bomb[: place + 24] + (200).to_bytes(4, "little") + bomb[place + 28 :]
    with pytest.raises(ProjectError, match="damaged"):
        decode(liar)


def test_odd_archives_are_refused(data):
    """Encrypted, twice named, oddly compressed, with a huge or a 64-bit table of contents: all refused."""
    directory = data.index(b"PK\x01\x02")
    encrypted = data[: directory + 8] + b"\x01\x00" + data[directory + 10 :]
    lzma = data[: directory + 10] + b"\x0e\x00" + data[directory + 12 :]
    long_table = data[:-10] + (10**8).to_bytes(4, "little") + data[-6:]
    large = data[:-22] + b"PK\x06\x07" + bytes(16) + data[-22:]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("labels.npy", array([1]))
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("labels.npy", array([1]))
    for odd in (encrypted, lzma, long_table, large, buffer.getvalue(), data + b"x" * 30):
        with pytest.raises(ProjectError):
            decode(odd)


def test_a_newer_format_is_told_from_damage(data):
    """A correction of a newer version says so; it is not called damaged."""
    newer = rewritten(data, header=array('{"format": 2, "anything": "else"}'))
    with pytest.raises(NewerFormatError, match="Update napari-unet-live"):
        decode(newer)


# Names, splitting, replay ----------------------------------------------------------------------------


def test_names_sort_by_time_and_are_all_different(data):
    """Names of later edits sort later, and two windows in the same nanosecond still differ."""
    stamps = [0, 1, 9, 10, 1_700_000_000_000_000_000, 2**63 - 1]
    names = [file_name(stamp, data) for stamp in stamps]
    assert names == sorted(names)
    assert [stamp_of(name) for name in names] == stamps
    assert file_name(5, data) != file_name(5, data + b"x")
    assert names[0].split("-")[1] == hashlib.sha256(data).hexdigest()[:8] + ".npz"


@pytest.mark.parametrize(
    "name", ["a.npz", "1-0.npz", "../x.npz", f"{2**63:020d}-00000000.npz", "0" * 20 + "-0000000g.npz"]
)
def test_other_names_have_no_time(name):
    """What is not named like an edit is none."""
    assert stamp_of(name) is None


@pytest.mark.parametrize("tool", ["region", "undo"])
def test_a_large_edit_is_split_into_ones_that_do_the_same(monkeypatch, tool):
    """However an edit is cut, its parts fit into files and together write the same voxels."""
    monkeypatch.setattr(edits_module, "SPLIT_VOXELS", 50)
    rng = np.random.default_rng(3)
    shape = (3, 11, 17)
    taught = rng.integers(0, 3, shape).astype(np.uint8) if tool == "undo" else None
    labels = rng.integers(0, 99, shape, dtype=np.int32)
    edit = Edit("p", Box((0, -2, 1), (3, 9, 18)), labels, rng.random(shape) < 0.5, tool, taught=taught)
    parts = [decode(encode(part)) for part in split(edit)]
    assert len(parts) > 8
    assert max(part.labels.size for part in parts) <= 50
    whole, pieces = replay([edit], (3, 12, 20), "p"), replay(parts, (3, 12, 20), "p")
    assert all(np.array_equal(a, b) for a, b in zip(whole, pieces, strict=True))
    assert split(parts[0]) == [parts[0]]


def test_an_edit_that_was_not_split_is_refused(monkeypatch, make_edit):
    """A record over the limit is never written, because it would not be read."""
    monkeypatch.setattr(edits_module, "RECORD_LIMIT", 10)
    with pytest.raises(ProjectError, match="split"):
        encode(make_edit(1))


def test_replay_keeps_the_order_and_undoes(make_edit):
    """The last word wins; an undo brings back what was before, held-out marks included."""
    box = Box((0, 0), (2, 2))
    ones = np.ones((2, 2), np.int32)
    first = Edit("p", box, ones, np.array([[True, True], [False, False]]), held_out=True)
    second = Edit("p", box, ones * 2, np.array([[True, False], [True, False]]))
    before = replay([first], (2, 3), "p")
    undo = Edit("p", box, before[0][:, :2], np.ones((2, 2), bool), "undo", taught=before[1][:, :2])
    truth, taught = replay([first, second], (2, 3), "p")
    assert truth.tolist() == [[2, 1, 0], [2, 0, 0]]
    assert taught.tolist() == [[1, 2, 0], [1, 0, 0]]
    for after, wanted in zip(replay([first, second, undo], (2, 3), "p"), before, strict=True):
        assert np.array_equal(after, wanted)
    assert replay([second, first], (2, 3), "p")[0].tolist() == [[1, 1, 0], [2, 0, 0]]
    assert (truth.dtype, taught.dtype) == (np.int32, np.uint8)


def test_replay_leaves_out_other_pictures_and_other_shapes(make_edit):
    """Edits of another picture, or with another number of axes, change nothing."""
    others = [make_edit(1, "q"), Edit("p", Box((0,), (2,)), np.ones(2, np.int32), np.ones(2, bool))]
    truth, taught = replay(others, (60, 60), "p")
    assert not truth.any()
    assert not taught.any()


@settings(max_examples=25, derandomize=True)
@given(st.lists(st.integers(0, 30), max_size=12))
def test_replay_equals_a_plain_loop_over_voxels(numbers):
    """Against the simplest possible model: a dict of the last word on each voxel."""
    plain, all_edits = {}, []
    for number in numbers:
        rng = np.random.default_rng(number)
        start = rng.integers(-3, 8, 2)
        labels, trusted = rng.integers(0, 9, (3, 4), dtype=np.int32), rng.random((3, 4)) < 0.5
        box = Box(tuple(map(int, start)), tuple(map(int, start + np.array([3, 4]))))
        all_edits.append(Edit("p", box, labels, trusted, held_out=bool(number % 2)))
        for y, x in np.argwhere(trusted):
            plain[start[0] + y, start[1] + x] = (labels[y, x], 1 + number % 2)
    truth, taught = replay(all_edits, (9, 9), "p")
    for y, x in np.ndindex(9, 9):
        assert (truth[y, x], taught[y, x]) == plain.get((y, x), (0, 0))
