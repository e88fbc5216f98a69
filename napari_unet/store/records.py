"""What `project.json` says: its records, their JSON, and what can be saved of it when it is damaged."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NoReturn, TypeVar

import numpy as np

from napari_unet.core.errors import ProjectError
from napari_unet.core.intensity import Limits
from napari_unet.store.edits import is_key

FORMAT = 1
ABOUT = f"U-Net Live project, format {FORMAT}"
JSON_LIMIT = 16 * 2**20  # bytes
VALUES_LIMIT = 1_000_000  # millions of empty lists fit into few bytes, and would take long and much memory
DEPTH_LIMIT = 32
TEXT_LIMIT = 4096  # characters of a name or a path
NUMBER_LIMIT = 2**40
CURVE_LENGTH = 2000
MODEL_FILE = re.compile(r"[0-9]{6,9}\.safetensors")
HASH = re.compile(r"[0-9a-f]{0,128}")
BROKEN = (KeyError, ValueError, TypeError, AttributeError)
Part = TypeVar("Part")
Point = dict[str, Any]


@dataclass(frozen=True)
class PictureRecord:
    """A picture of a project.

    Attributes
    ----------
    key : str
        Identity: small letters, digits, '-' and '_'.
    name : str
        What the user calls it.
    path : str
        Where it was last seen: absolute, or relative to the project folder; '' if unknown. Only a hint,
        never opened by itself: a project may come from a stranger.
    shape : tuple of int
        ([T, Z,] Y, X) in voxels; () if unknown.
    channels : tuple of int or None
        The channels that the model reads; None: all.
    limits : Limits or None
        Intensities that become 0 and 1.
    diameter : float or None
        Size of the objects in pixels; None: not set.
    is_inverted : bool or None
        Whether the model sees it with dark and bright exchanged; None: not known.
    """

    key: str
    name: str = ""
    path: str = ""
    shape: tuple[int, ...] = ()
    channels: tuple[int, ...] | None = None
    limits: Limits | None = None
    diameter: float | None = None
    is_inverted: bool | None = None


@dataclass(frozen=True)
class VersionRecord:
    """A version of the model that was kept.

    Attributes
    ----------
    number : int
        0 is the model the project started from.
    score : float or None
        Held-out score when it took over (0 to 1).
    learnt : int
        Corrections it has seen.
    time : float
        Seconds since the epoch.
    file : str
        Name in the folder `models`; '' if no file was kept (a shipped model). Given by the project.
    pinned : bool
        Never deleted.
    parent_hash : str
        SHA-256 of the weights it was fine-tuned from; '' if from none.
    sha256 : str
        Of the file; '' if unknown. Given by the project.
    """

    number: int
    score: float | None = None
    learnt: int = 0
    time: float = 0.0
    file: str = ""
    pinned: bool = False
    parent_hash: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class Contents:
    """All that `project.json` holds.

    Attributes
    ----------
    model : str
        Name of the model that the project began with.
    pictures : dict of str to PictureRecord
        By key.
    settings : dict
        Numbers, words, lists and dicts of these.
    versions : tuple of VersionRecord
        By number.
    current : int
        Number of the version in use.
    curve : tuple of dict
        Points of the learning curve.
    """

    model: str = ""
    pictures: dict[str, PictureRecord] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    versions: tuple[VersionRecord, ...] = ()
    current: int = 0
    curve: tuple[Point, ...] = ()


def plain(value: Any) -> Any:
    """A value as JSON can hold it: numpy becomes plain Python, NaN and infinity become None.

    Raises
    ------
    ProjectError
        If it is something else than numbers, words, and lists or dicts of these.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    raise ProjectError(f"A project keeps numbers, words and lists of them; it cannot keep a {type(value).__name__}.")


def shorten(curve: tuple[Point, ...]) -> tuple[Point, ...]:
    """A curve of at most CURVE_LENGTH points: of its older half every second point stays, and every score."""
    if len(curve) <= CURVE_LENGTH:
        return curve
    half = len(curve) // 2
    older = tuple(p for i, p in enumerate(curve[:half]) if i % 2 == 0 or _is_scored(p))
    return (older + curve[half:])[-CURVE_LENGTH:]


def _is_scored(point: Point) -> bool:
    """Whether a point of the curve holds a score: `score`, or `score_before` and `score_after` of new weights."""
    return any(name.startswith("score") and value is not None for name, value in point.items())


def dump(contents: Contents) -> bytes:
    """The bytes of `project.json`.

    Every format, also a future one, has `format`, `about`, and `sha256` over all the rest, so that an
    old version tells a newer file from a damaged one.

    Raises
    ------
    ProjectError
        If `load` would not accept it: too large, or a record with a value that it cannot have.
    """
    values = {"format": FORMAT, "about": ABOUT, **plain(asdict(contents))}
    values["pictures"] = list(values["pictures"].values())
    values["sha256"] = _checksum(values)
    data = json.dumps(values, indent=1, sort_keys=True, allow_nan=False).encode("ascii")
    if len(data) > JSON_LIMIT:
        raise ProjectError(
            f"The project's settings are {len(data)} bytes; {JSON_LIMIT} can be kept. Keep less in them."
        )
    if problems := load(data)[1]:
        # better to refuse it now than to call it damaged tomorrow
        raise ProjectError(f"This cannot be kept in a project. {' '.join(problems)}")
    return data


def load(data: bytes) -> tuple[Contents | None, list[str]]:
    """Read `project.json`.

    Returns
    -------
    contents : Contents or None
        All that can be read; None if nothing can.
    problems : list of str
        What is wrong, as sentences; none if the file is as it was written.

    Raises
    ------
    ProjectError
        If a newer version wrote it, or it is nested deeper or holds more than we ever write: it is
        refused as it is.
    """
    if sum(data.count(sign) for sign in b"[{,") > VALUES_LIMIT:
        raise ProjectError(f"project.json holds more than {VALUES_LIMIT} values. It was not opened.")
    try:
        values = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
        deep = _depth(values) > DEPTH_LIMIT
    except RecursionError:
        deep = True
    except ValueError:
        return None, ["project.json is damaged and could not be read."]
    if deep:
        raise ProjectError("project.json is nested deeper than U-Net Live ever writes. It was not opened.")
    if not isinstance(values, dict):
        return None, ["project.json is damaged: it does not hold a project."]
    written = values.get("format")
    is_whole = values.get("sha256") == _checksum(values)
    if type(written) is int and written > FORMAT and (is_whole or values.get("about") != ABOUT):
        raise ProjectError("This project was written by a newer version. Update napari-unet-live to open it.")
    problems = [] if is_whole else ["project.json was damaged or changed by hand (its checksum is wrong)."]
    return _contents(values, problems), problems


def _checksum(values: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in values.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a name stands twice")
    return values


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _depth(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


def _contents(values: dict[str, Any], problems: list[str]) -> Contents:
    """What can be read, part by part; a part that makes no sense is named in `problems`."""

    def part(name: str, read: Callable[[Any], Part], default: Part) -> Part:
        try:
            return read(values[name])
        except BROKEN:
            problems.append(f"In project.json, '{name}' is damaged and was left out.")
            return default

    def each(name: str, read: Callable[[Any], Part]) -> list[Part]:
        kept: list[Part] = []
        items: list[Any] = part(name, _list, [])
        for item in items:
            try:
                kept.append(read(item))
            except BROKEN:
                problems.append(f"In project.json, an entry of '{name}' is damaged or unsafe and was left out.")
        return kept

    versions = {version.number: version for version in each("versions", _version)}
    return Contents(
        model=part("model", _text, ""),
        pictures={picture.key: picture for picture in each("pictures", _picture)},
        settings=part("settings", _dict, {}),
        versions=tuple(versions[number] for number in sorted(versions)),
        current=part("current", _count, max(versions, default=0)),
        curve=shorten(tuple(each("curve", _dict))),
    )


def _picture(value: dict[str, Any]) -> PictureRecord:
    limits, channels, diameter = value["limits"], value["channels"], value["diameter"]
    is_inverted = value.get("is_inverted")  # not noted before 2026-11-28
    if not is_key(value["key"]):
        raise ValueError("unsafe")
    return PictureRecord(
        key=value["key"],
        name=_text(value["name"]),
        path=_text(value["path"]),
        shape=_counts(value["shape"]),
        channels=None if channels is None else _counts(channels),
        limits=None if limits is None else Limits(_numbers(limits["low"]), _numbers(limits["high"])),
        diameter=None if diameter is None else _number(diameter),
        is_inverted=None if is_inverted is None else bool(is_inverted),
    )


def _version(value: dict[str, Any]) -> VersionRecord:
    file, pinned, score = value["file"], value["pinned"], value["score"]
    if not (file == "" or MODEL_FILE.fullmatch(file)) or not isinstance(pinned, bool):
        raise ValueError("unsafe")
    return VersionRecord(
        number=_count(value["number"]),
        score=None if score is None else _number(score),
        learnt=_count(value["learnt"]),
        time=_number(value["time"]),
        file=file,
        pinned=pinned,
        parent_hash=_hash(value["parent_hash"]),
        sha256=_hash(value["sha256"]),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > TEXT_LIMIT:
        raise TypeError("no text")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("no list")
    return value


def _dict(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("no dict")
    return value


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= NUMBER_LIMIT:
        raise TypeError("no count")
    return value


def _counts(value: Any) -> tuple[int, ...]:
    counts = tuple(_count(n) for n in _list(value))
    if len(counts) > TEXT_LIMIT:
        raise ValueError("too many")
    return counts


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise TypeError("no number")
    return float(value)


def _numbers(value: Any) -> tuple[float, ...]:
    return tuple(_number(n) for n in _list(value))


def _hash(value: Any) -> str:
    if not isinstance(value, str) or not HASH.fullmatch(value):
        raise ValueError("no hash")
    return value
