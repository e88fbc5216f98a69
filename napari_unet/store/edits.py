"""One Edit is one file that never changes; a picture's state is the replay of all of them in order."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet.core.card import KINDS
from napari_unet.core.corrections import HELD_OUT, Edit
from napari_unet.core.errors import ProjectError
from napari_unet.core.geometry import Box
from napari_unet.core.prompts import Prompts
from napari_unet.store.npz import MAX_AXES, Arrays, pack, unpack, whole_numbers

FORMAT = 1
RECORD_LIMIT = 64 * 2**20  # bytes of one file, packed or unpacked
SPLIT_VOXELS = 8 * 2**20  # at 6 bytes each well below the limit
LAST_STAMP = 2**63  # nanoseconds: the year 2262
FAR = 2**40  # voxels; no picture is that wide
ARRAYS = ("header", "labels", "trusted", "taught")
KEY = re.compile(r"[a-z0-9][a-z0-9_-]{0,127}")
TOOL = re.compile(r"[a-z][a-z_ -]{0,31}")
FILE_NAME = re.compile(r"(?P<stamp>[0-9]{20})-(?P<sum>[0-9a-f]{8})\.npz")
DEVICE_NAMES = re.compile(r"con|prn|aux|nul|(com|lpt)[0-9]")


class NewerFormatError(ProjectError):
    """A file of a newer U-Net Live: nothing is wrong with it, so it is left alone."""


def is_key(key: object) -> bool:
    """Whether something is the identity of a picture: small letters, digits, '-' and '_'; never a path."""
    return isinstance(key, str) and KEY.fullmatch(key) is not None and DEVICE_NAMES.fullmatch(key) is None


def file_name(stamp: int, data: bytes) -> str:
    """The name of an edit's file: sorts by time, and tells whether the bytes are still those it was given for.

    Parameters
    ----------
    stamp : int
        Nanoseconds since the epoch.
    data : bytes
        What `encode` gave.
    """
    return f"{stamp:020d}-{hashlib.sha256(data).hexdigest()[:8]}.npz"


def stamp_of(name: str) -> int | None:
    """The time in a file's name, in nanoseconds; None if it is no edit's name."""
    found = FILE_NAME.fullmatch(name)
    return int(found["stamp"]) if found and int(found["stamp"]) < LAST_STAMP else None


def encode(edit: Edit) -> bytes:
    """The bytes of an edit's file.

    Raises
    ------
    ProjectError
        If the edit contradicts itself, or is larger than one file may be (see `split`).
    """
    arrays: Arrays = {"labels": whole_numbers(edit.labels), "trusted": np.asarray(edit.trusted)}
    if edit.taught is not None:
        arrays["taught"] = np.asarray(edit.taught)
    header = {
        "format": FORMAT,
        "picture": edit.picture,
        "start": [int(n) for n in edit.box.start],
        "stop": [int(n) for n in edit.box.stop],
        "tool": edit.tool,
        "held_out": bool(edit.held_out),
        "time": float(edit.time),
        "right": None if edit.right is None else float(edit.right),
        "kind": edit.kind,
    }
    if edit.prompts is not None:
        header["prompts"] = _prompts_to_json(edit.prompts)
    _edit_of(header, arrays)  # what cannot be read back must not be written
    if sum(array.nbytes for array in arrays.values()) > RECORD_LIMIT:
        raise ProjectError("This correction is too large for one file; it has to be split.")
    return pack({"header": np.array(json.dumps(header)), **arrays})


def decode(data: bytes, name: str = "correction") -> Edit:
    """The edit of a file.

    Parameters
    ----------
    data : bytes
    name : str
        What to call the file in an error.

    Raises
    ------
    ProjectError
        If the file is damaged.
    NewerFormatError
        If a newer version wrote it.
    """
    arrays = unpack(data, ARRAYS, RECORD_LIMIT, name)
    try:
        header = json.loads(str(arrays.pop("header").item()))
        if isinstance(header.get("format"), int) and header["format"] > FORMAT:
            raise NewerFormatError(f"'{name}' was written by a newer version. Update napari-unet-live to use it.")
        return _edit_of(header, arrays)
    except (ProjectError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        if isinstance(error, NewerFormatError):
            raise
        raise ProjectError(f"'{name}' is damaged: what it says of itself makes no sense ({error}).") from error


def split(edit: Edit) -> list[Edit]:
    """The edit cut into ones that each fit into a file; together they do the same."""
    if math.prod(edit.box.shape) <= SPLIT_VOXELS:
        return [edit]
    axis = int(np.argmax(edit.box.shape))
    middle = edit.box.shape[axis] // 2
    parts: list[Edit] = []
    for first, last in ((0, middle), (middle, edit.box.shape[axis])):
        cut = (slice(None),) * axis + (slice(first, last),)
        start, stop = list(edit.box.start), list(edit.box.stop)
        start[axis], stop[axis] = edit.box.start[axis] + first, edit.box.start[axis] + last
        taught = None if edit.taught is None else edit.taught[cut]
        part = replace(edit, box=Box(tuple(start), tuple(stop)), labels=edit.labels[cut], trusted=edit.trusted[cut])
        parts += split(replace(part, taught=taught))
    return parts


def replay(
    edits: Iterable[Edit], shape: Sequence[int], picture: str
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
    """What the user said of a picture, from all edits in the order they were made.

    Parameters
    ----------
    edits : iterable of Edit
        Of any pictures; those of others, or of another number of axes, say nothing here.
    shape : ([T, Z,] Y, X)
        Of the picture, in voxels.
    picture : str
        Identity of the picture.

    Returns
    -------
    truth : (*shape) int32
        The labels the user set, where `taught` is not 0.
    taught : (*shape) uint8
        0 not taught, 1 taught, 2 held out.
    """
    truth = np.zeros(tuple(shape), np.int32)
    taught = np.zeros(tuple(shape), np.uint8)
    for edit in edits:
        if edit.picture == picture and len(edit.box.start) == len(shape):
            edit.apply(truth, taught)
    return truth, taught


def _edit_of(header: dict[str, Any], arrays: Arrays) -> Edit:
    """An edit from its parts, if they fit together.

    Raises
    ------
    ProjectError
        If they do not.
    """
    box = Box(_corner(header["start"]), _corner(header["stop"]))
    labels, trusted, taught = arrays["labels"], arrays["trusted"], arrays.get("taught")
    picture, tool, held_out, time = header["picture"], header["tool"], header["held_out"], header["time"]
    right, kind = header.get("right"), header.get("kind", "")  # not written before 2026-11-24, and 2026-11-28
    prompts = _prompts_of(header["prompts"]) if "prompts" in header else None
    facts = {
        "the picture's identity": is_key(picture),
        "the tool": isinstance(tool, str) and TOOL.fullmatch(tool) is not None,
        "held_out": isinstance(held_out, bool),
        "the time": type(time) in (int, float) and math.isfinite(time),
        "how right it was": right is None or (type(right) in (int, float) and 0 <= right <= 1),
        "what its labels are": kind in ("", *KINDS),
        "the format": header["format"] == FORMAT,
        "the box": len(box.start) == len(box.stop) <= MAX_AXES
        and all(a <= b for a, b in zip(box.start, box.stop, strict=True)),
        "the labels": labels.dtype == np.int32,
        "the mask": trusted.dtype == bool,
        "what was taught": taught is None or (taught.dtype == np.uint8 and int(taught.max(initial=0)) <= HELD_OUT),
        "an undo": (tool == "undo") == (taught is not None),
    }
    wrong = [what for what, holds in facts.items() if not holds]
    if not wrong and any(a.shape != box.shape for a in (labels, trusted, taught) if a is not None):
        wrong = ["the shapes"]
    if wrong:
        raise ProjectError(f"A correction contradicts itself: see {', '.join(wrong)}.")
    return Edit(picture, box, labels, trusted, tool, held_out, float(time), taught, right, prompts, kind)


def _prompts_to_json(prompts: Prompts) -> dict[str, Any]:
    """What showed an object, as JSON has it."""
    box = prompts.box
    return {
        "positive": [[float(c) for c in point] for point in prompts.positive],
        "negative": [[float(c) for c in point] for point in prompts.negative],
        "box": None if box is None else [[int(n) for n in box.start], [int(n) for n in box.stop]],
    }


def _prompts_of(value: dict[str, Any]) -> Prompts:
    """What showed an object."""
    positive, negative = (tuple(_point(point) for point in value[name]) for name in ("positive", "negative"))
    box = value["box"]
    return Prompts(positive, negative, None if box is None else Box(_corner(box[0]), _corner(box[1])))


def _point(value: Any) -> tuple[float, float]:
    y, x = (float(c) for c in value)
    if not max(abs(y), abs(x)) < FAR:
        raise ProjectError("A click lies outside every picture.")
    return y, x


def _corner(values: Any) -> tuple[int, ...]:
    if not isinstance(values, list) or any(type(n) is not int or abs(n) > FAR for n in values):
        raise ProjectError("A correction's box is no list of voxels.")
    return tuple(values)
