"""project.json: what is written comes back, and what is damaged is named and saved in part."""

import json
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet.core.errors import ProjectError
from napari_unet.core.intensity import Limits
from napari_unet.store import records
from napari_unet.store.edits import is_key
from napari_unet.store.records import Contents, PictureRecord, VersionRecord, dump, load, plain, shorten

FULL = Contents(
    model="default",
    pictures={
        "ab12": PictureRecord(
            "ab12", "plate 3 · é", "../a.tif", (3, 512, 512), (0, 2), Limits((0.5,), (99.0,)), 32.0, is_inverted=True
        ),
        "cd34": PictureRecord("cd34"),
    },
    settings={"threshold": 0.5, "names": ["a", "b"], "deep": {"x": None, "y": True}},
    versions=(
        VersionRecord(1, 0.81, 5, 1.5, "000001.safetensors", True, "ab", "cd"),
        VersionRecord(2, None, 9, 2.5, "000002.safetensors"),
    ),
    current=2,
    curve=({"step": 1, "loss": 0.5}, {"step": 2, "score": 0.8}),
)

numbers = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 2**40)
keys = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,20}", fullmatch=True).filter(is_key)
names = st.text(max_size=20)
pictures = st.builds(
    PictureRecord,
    key=keys,
    name=names,
    path=names,
    shape=st.lists(counts, max_size=5).map(tuple),
    channels=st.none() | st.lists(counts, max_size=3).map(tuple),
    limits=st.none() | st.builds(Limits, st.lists(numbers).map(tuple), st.lists(numbers).map(tuple)),
    diameter=st.none() | numbers,
    is_inverted=st.none() | st.booleans(),
)
versions = st.builds(
    VersionRecord,
    number=counts,
    score=st.none() | numbers,
    learnt=counts,
    time=numbers,
    file=st.integers(1, 999999).map("{:06d}.safetensors".format),
    pinned=st.booleans(),
    parent_hash=st.from_regex(r"[0-9a-f]{0,64}", fullmatch=True),
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | numbers | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=60, derandomize=True)
@given(
    model=names,
    pictures=st.lists(pictures, max_size=3).map(lambda many: {p.key: p for p in many}),
    settings=st.dictionaries(names, values, max_size=3),
    versions=st.lists(versions, max_size=3, unique_by=lambda v: v.number).map(
        lambda many: tuple(sorted(many, key=lambda v: v.number))
    ),
    current=counts,
    curve=st.lists(st.dictionaries(names, values, max_size=2), max_size=3).map(tuple),
)
def test_any_contents_come_back_equal(**kwargs):
    """Whatever a project holds is read as it was written, without a problem."""
    contents = Contents(**kwargs)
    assert load(dump(contents)) == (contents, [])


def test_every_field_is_kept():
    """No record has a field that is forgotten on the way."""
    found, problems = load(dump(FULL))
    assert (found, problems) == (FULL, [])
    for record in (FULL.pictures["ab12"], FULL.versions[0], FULL):
        default = type(record)(
            **{"key": "x"}
            if isinstance(record, PictureRecord)
            else {"number": 0}
            if isinstance(record, VersionRecord)
            else {}
        )
        assert all(getattr(record, f.name) != getattr(default, f.name) for f in fields(record))


def test_numpy_and_odd_numbers_become_plain():
    """Numbers of numpy become Python's, and what is no number becomes None."""
    given_values = {"a": np.float32(0.5), "b": np.int64(3), 4: (np.nan, float("inf"), np.bool_(True))}
    assert plain(given_values) == {"a": 0.5, "b": 3, "4": [None, None, True]}
    with pytest.raises(ProjectError, match="cannot keep a set"):
        plain({"a": {1}})


@pytest.mark.parametrize(
    "record",
    [
        {"pictures": {"x": PictureRecord("../x")}},
        {"pictures": {"x": PictureRecord("x", name="n" * 5000)}},
        {"pictures": {"x": PictureRecord("x", shape=(-1, 2))}},
        {"versions": (VersionRecord(1, file="../../evil.safetensors"),)},
        {"versions": (VersionRecord(-1),)},
        {"versions": (VersionRecord(1, parent_hash="xyz"),)},
        {"current": -1},
        {"settings": json.loads("[" * 40 + "]" * 40)},
    ],
    ids=lambda record: str(record)[:60],
)
def test_what_would_not_be_read_is_not_written(record):
    """A value that a record cannot have is refused when it is saved, not called damaged the next day."""
    with pytest.raises(ProjectError):
        dump(replace(Contents(), **record))


def test_too_much_is_refused_when_it_is_saved():
    """Settings beyond the limit are refused at once."""
    with pytest.raises(ProjectError, match="Keep less"):
        dump(Contents(settings={"x": "y" * records.JSON_LIMIT}))


def test_a_long_curve_keeps_its_scores_its_end_and_its_length():
    """Old losses are thinned out; scores stay; a curve of scores alone is bounded too."""
    curve = ()
    for step in range(3 * records.CURVE_LENGTH):
        name = "score" if step % 200 else "score_after"  # of a round, and of weights that took over
        point = {"step": step, "score": None} | ({name: 0.5} if step % 100 == 0 else {})
        curve = shorten((*curve, point))
    assert len(curve) <= records.CURVE_LENGTH
    assert [p["step"] for p in curve if p["score"] or "score_after" in p] == list(
        range(0, 3 * records.CURVE_LENGTH, 100)
    )
    assert curve[-1]["step"] == 3 * records.CURVE_LENGTH - 1
    scores = shorten(tuple({"score": 1.0, "step": step} for step in range(2 * records.CURVE_LENGTH)))
    assert len(scores) == records.CURVE_LENGTH


# Damage --------------------------------------------------------------------------------------------


def test_truncation_is_named_at_every_length():
    """A torn file is damaged, wherever it was torn; it never raises anything unforeseen."""
    data = dump(FULL)
    for length in range(len(data)):
        contents, problems = load(data[:length])
        assert contents is None
        assert problems
    assert load(bytes(len(data))) == (None, ["project.json is damaged and could not be read."])


def test_every_flipped_bit_that_says_something_is_named():
    """One wrong bit anywhere is a problem that is named, or changes nothing of what is said."""
    data = dump(FULL)
    named = 0
    for position in range(len(data)):
        for bit in (0, 4, 7):
            flipped = bytearray(data)
            flipped[position] ^= 1 << bit
            contents, problems = load(bytes(flipped))
            named += bool(problems)
            assert problems or contents == FULL
    assert named > len(data)


def test_a_damaged_part_leaves_the_others():
    """Of a file with one wrong record all other records are read."""
    text = dump(FULL).decode().replace('"ab12"', '"../x"')
    contents, problems = load(text.encode())
    assert list(contents.pictures) == ["cd34"]
    assert contents.versions == FULL.versions
    assert contents.settings == FULL.settings
    assert len(problems) == 2
    values = json.loads(dump(FULL))
    values["versions"] = 5
    contents, problems = load(json.dumps(values).encode())
    assert contents.versions == ()
    assert contents.pictures == FULL.pictures
    assert any("'versions'" in problem for problem in problems)


@pytest.mark.parametrize("change", [{"format": 2}, {"format": 99, "about": "?"}, {"format": 10**9, "sha256": None}])
def test_a_newer_format_is_refused(change):
    """A file of a newer version is refused with what to do, whatever else it holds."""
    values = {**json.loads(dump(FULL)), **change}
    if "sha256" not in change:
        values["sha256"] = records._checksum(values)
    values["about"] = change.get("about", "U-Net Live project, format 2")
    with pytest.raises(ProjectError, match="Update napari-unet-live"):
        load(json.dumps(values).encode())


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, json.dumps({"a": json.loads("[" * 50 + "]" * 50)})])
def test_deep_nesting_is_refused(text):
    """What is nested deeper than we write is refused, neither read nor repaired."""
    with pytest.raises(ProjectError, match="nested deeper"):
        load(text.encode())


def test_millions_of_values_are_refused():
    """A file within the size limit that would fill the memory with empty lists is refused before it is read."""
    with pytest.raises(ProjectError, match="holds more than"):
        load(b"[" + b"[]," * 5_000_000 + b"0]")


@pytest.mark.parametrize(
    "text", ["", "null", "5", '"x"', "[]", "{", '{"a": NaN}', '{"a": 1, "a": 2}', '{"a": Infinity}', "\x00", "1" * 5000]
)
def test_other_json_is_damage(text):
    """JSON that is no project is called damaged; nothing is raised."""
    contents, problems = load(text.encode())
    assert contents is None
    assert len(problems) == 1


@settings(max_examples=200, derandomize=True)
@given(values=st.dictionaries(st.sampled_from([f.name for f in fields(Contents)]) | names, values))
def test_wrong_types_never_raise(values):
    """Whatever stands where a record should, the rest is read and the problem named."""
    contents, problems = load(json.dumps(values).encode())
    assert isinstance(contents, Contents)
    assert problems
    assert load(dump(contents))[1] == []


@settings(max_examples=100, derandomize=True)
@given(name=st.sampled_from(["pictures", "versions"]), field=st.integers(0, 7), value=values)
def test_a_wrong_field_costs_its_record_at_most(name, field, value):
    """One field with anything in it: the record is read, or left out and named; what was read can be saved."""
    whole = json.loads(dump(FULL))
    record = whole[name][0]
    record[sorted(record)[field % len(record)]] = value
    contents, problems = load(json.dumps(whole).encode())
    assert problems
    assert len(getattr(contents, name)) >= 1
    assert load(dump(contents))[1] == []
