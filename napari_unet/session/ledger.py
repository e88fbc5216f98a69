"""Ledger: which corrections stand, and which of them the model has seen."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_unet.core.corrections import Edit, Mask
from napari_unet.core.geometry import Box

RECENT = 20
"""Corrections that tell how good the model is now."""
RIGHT = 0.75
"""How right a mask must have been to count as right: an outline that many would have left alone."""


@dataclass(eq=False)
class Entry:
    """One correction that stands.

    Attributes
    ----------
    picture : str
    box : Box
    stamp : (float, str)
        Time and tool; parts of one correction that are kept in several files have the same.
    right : float or None
        How right the masks were there before the user touched them, 0..1; None if that is not known.
    kind : str
        What its labels are: 'objects' or 'classes'; '' if that is not known.
    trusted : bytes or None
        Its mask, eight voxels a byte; None for one that was read back.
    is_kept : bool
        It is on disk and in the pool.
    is_studied : bool
        It was so when the round that runs began.
    is_learnt : bool
        The weights in use have seen it.
    """

    picture: str
    box: Box
    stamp: tuple[float, str]
    right: float | None = None
    kind: str = ""
    trusted: npt.NDArray[np.uint8] | None = None
    is_kept: bool = False
    is_studied: bool = False
    is_learnt: bool = False

    @property
    def mask(self) -> Mask:
        """The voxels that the user set, (*box) bool."""
        size = int(np.prod(self.box.shape))
        if self.trusted is None:
            return np.ones(self.box.shape, bool)
        return np.unpackbits(self.trusted, count=size).astype(bool).reshape(self.box.shape)


class Ledger:
    """The corrections of a project, in the order they were made. May be used from any thread.

    Attributes
    ----------
    kind : {'objects', 'classes', ''}
        Of the model in use: corrections of another kind stand, but are not counted, for it does not learn from them.
    """

    def __init__(self) -> None:
        self.kind = ""
        self._entries: list[Entry] = []
        self._lock = threading.Lock()

    def _counts(self, entry: Entry) -> bool:
        """Whether a correction is of the kind that counts."""
        return not self.kind or entry.kind in ("", self.kind)

    def _counted(self) -> list[Entry]:
        """The corrections of the kind that counts."""
        with self._lock:
            return [entry for entry in self._entries if self._counts(entry)]

    def others(self) -> int:
        """Corrections of another kind."""
        counted = len(self._counted())
        with self._lock:
            return len(self._entries) - counted

    def counts(self) -> tuple[int, int, int]:
        """Corrections that stand, pictures they are in, and how many of them are learnt."""
        entries = self._counted()
        return len(entries), len({entry.picture for entry in entries}), sum(entry.is_learnt for entry in entries)

    def recent(self) -> tuple[int, int]:
        """Of the last corrections of which it is known: how many were right before the user touched them; their number.

        That is the prequential score: each correction tests the model before the model learns from it.
        """
        known = [entry.right for entry in self._counted() if entry.right is not None][-RECENT:]
        return sum(right >= RIGHT for right in known), len(known)

    def count_in(self, picture: str) -> int:
        """Corrections that stand in one picture."""
        return sum(entry.picture == picture for entry in self._counted())

    # --- what the user does --------------------------------------------------

    def add(self, edit: Edit) -> Entry:
        """Note a correction."""
        packed = np.packbits(edit.trusted)
        entry = Entry(edit.picture, edit.box, (edit.time, edit.tool), edit.right, edit.kind, packed)
        with self._lock:
            self._entries.append(entry)
        return entry

    def withdraw(self, picture: str, box: Box) -> Mask:
        """Strike out the newest correction with this very box.

        Returns
        -------
        (*box) bool
            The voxels that nobody set after it: those to put back. All, if no such correction stands.
        """
        with self._lock:
            index = self._newest(picture, box)
            if index is None:
                return np.ones(box.shape, bool)
            entry = self._entries.pop(index)
            later = [e for e in self._entries[index:] if (e.picture, e.kind) == (picture, entry.kind)]
        mask = entry.mask
        for other in later:
            shared = other.box.intersect(box)
            if not shared.is_empty:
                mask[shared.within(box).slices] &= ~other.mask[shared.within(other.box).slices]
        return mask

    def _newest(self, picture: str, box: Box) -> int | None:
        """Place of the newest correction with this box."""
        for index in range(len(self._entries) - 1, -1, -1):
            if self._entries[index].picture == picture and self._entries[index].box == box:
                return index
        return None

    def read_back(self, edits: Iterable[Edit], waiting: Iterable[Entry] = ()) -> None:
        """Begin anew with all edits of a project, undone ones and undos too, in order; none is in the pool yet.

        Of the entries so far those stay that are still `waiting` to be written into it.
        """
        with self._lock:
            left = [entry for entry in waiting if entry in self._entries]
            self._entries.clear()
            for entry in _whole(edits):
                if entry.stamp[1] != "undo":
                    self._entries.append(entry)
                elif (index := self._newest(entry.picture, entry.box)) is not None:
                    del self._entries[index]
            self._entries += left

    def keep(self, entries: Iterable[Entry]) -> None:
        """These are on disk and in the pool, so the next round studies them."""
        with self._lock:
            for entry in entries:
                entry.is_kept = True

    def keep_all_in(self, picture: str) -> None:
        """What was read back of a picture is in the pool; what was made since then has its own turn."""
        with self._lock:
            for entry in self._entries:
                entry.is_kept |= entry.picture == picture and entry.trusted is None

    # --- what the model does -------------------------------------------------

    def begin_round(self) -> None:
        """A round begins: it studies what is kept now."""
        with self._lock:
            for entry in self._entries:
                entry.is_studied = entry.is_kept and self._counts(entry)

    def take_over(self) -> int:
        """The weights of the round take over; how many corrections they have seen."""
        with self._lock:
            for entry in self._entries:
                entry.is_learnt |= entry.is_studied
        return sum(entry.is_learnt for entry in self._counted())

    def go_back(self, learnt: int) -> None:
        """Other weights are in use, which have seen the first `learnt` corrections."""
        for index, entry in enumerate(self._counted()):
            entry.is_learnt = index < learnt


def _whole(edits: Iterable[Edit]) -> Iterator[Entry]:
    """An entry for each edit; parts of one (of other voxels, or of a large box) as one."""
    last: Entry | None = None
    for edit in edits:
        stamp = (edit.time, edit.tool)
        if last is not None and (edit.picture, stamp) == (last.picture, last.stamp) and edit.time:
            last.box = Box.union((last.box, edit.box))
            continue
        if last is not None:
            yield last
        last = Entry(edit.picture, edit.box, stamp, edit.right, edit.kind)
    if last is not None:
        yield last
