"""Teaching: what the user sets, from the label layer to the disk and to what the model learns from."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt

from napari_unet.core.card import KINDS
from napari_unet.core.corrections import Edit
from napari_unet.core.errors import ImageError
from napari_unet.core.geometry import Box
from napari_unet.core.picture import Picture
from napari_unet.core.sides import Sides
from napari_unet.engine.pool import Pool
from napari_unet.session.keeper import Draft, Keeper
from napari_unet.session.ledger import Entry, Ledger

_Said = tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]


class Teaching:
    """Takes corrections, has them written, and gives to the training what is on disk.

    Parameters
    ----------
    keeper, pool, ledger : Keeper, Pool, Ledger
        Of the session.
    fail : callable
        Tells the user a sentence.

    Attributes
    ----------
    kind : {'objects', 'classes'}
        What the labels are that the pictures hold now; what was set in labels of the other kind is set aside.
    """

    def __init__(self, keeper: Keeper, pool: Pool, ledger: Ledger, fail: Callable[[str], object]) -> None:
        self._keeper, self._pool, self._ledger, self._fail = keeper, pool, ledger, fail
        self.kind = KINDS[0]
        self._aside: dict[tuple[str, str], _Said] = {}  # of a picture and a kind
        self._sides = Sides()
        self._last_time = 0.0

    def add(self, edit: Edit, picture: Picture) -> None:
        """Keep what the user set. On which side of the split it is, and its time, are decided here."""
        edit = replace(edit, time=self._now(), taught=None, kind=edit.kind or self.kind)
        parts = self._sides.divide(edit, self._said_in(picture, edit.kind)[1])
        if parts:
            picture.note_sizes(edit)
            self._keep(parts, picture, self._ledger.add(edit))

    def withdraw(
        self, picture: Picture, box: Box, labels: npt.NDArray[np.int32], taught: npt.NDArray[np.uint8]
    ) -> None:
        """Take back the newest correction with this box; what was set after it stays."""
        mask = self._ledger.withdraw(picture.key, box)
        undo = Edit(picture.key, box, labels, mask, "undo", time=self._now(), taught=taught, kind=self.kind)
        self._keep([undo], picture, None)

    def _now(self) -> float:
        """The time, in seconds since the epoch; never the same twice, for it tells corrections apart."""
        self._last_time = max(time.time(), self._last_time + 1e-6)
        return self._last_time

    def _keep(self, edits: list[Edit], picture: Picture, entry: Entry | None) -> None:
        """Take edits over, and hand them to the disk."""
        for edit in edits:
            edit.apply(*self._said_in(picture, edit.kind))
        self._keeper.keep_edits(edits, picture, entry)

    def take(self, draft: Draft) -> bool:
        """Learn from a correction from now on (disk thread, when it is written); whether there is something new."""
        try:
            self._pool.take(draft.picture, draft.edits)
        except ImageError as error:
            self._fail(f"A correction is saved, but cannot be learnt: {error}")
            return False
        if draft.entry is not None:
            self._ledger.keep([draft.entry])
        return draft.entry is not None

    def _said_in(self, picture: Picture, kind: str) -> _Said:
        """What was set in a picture in labels of a kind: `truth` and `taught`."""
        if kind == self.kind:
            return picture.truth, picture.taught
        if (picture.key, kind) not in self._aside:
            # zeros: the system gives these memory only when they are written to
            shape = picture.truth.shape
            self._aside[picture.key, kind] = (np.zeros(shape, np.int32), np.zeros(shape, np.uint8))
        return self._aside[picture.key, kind]

    def turn(self, pictures: dict[str, Picture], kind: str) -> bool:
        """Have pictures hold what was set in labels of this kind, and set the rest aside; False if they did already."""
        old, self.kind = self.kind, kind
        for key, picture in pictures.items() if old != kind else ():
            known = self._aside.pop((key, kind), None)
            if picture.taught.any():
                self._aside[key, old] = picture.truth.copy(), picture.taught.copy()
            picture.truth[...], picture.taught[...] = known or (0, 0)
            masks = self._keeper.masks_of(picture, kind)
            if masks is not None or picture.masks is not None:
                picture.masks = None  # those of the kind before mean nothing now
                picture.lay_known(np.zeros(picture.source.shape, np.int32) if masks is None else masks, kind)
        return old != kind

    def restore(self, picture: Picture) -> None:
        """Bring back what the project knows of a picture: how it is read, what was set, and its masks."""
        shape = picture.source.shape
        edits = [e for e in self._keeper.edits() if e.picture == picture.key and len(e.box.start) == len(shape)]
        # before 2026-11-28 it was not noted what labels are
        edits = [known for e in edits for known in ([e] if e.kind else [replace(e, kind=kind) for kind in KINDS])]
        for kind in KINDS:
            self._aside.pop((picture.key, kind), None)
        drafts = [draft for draft in self._keeper.drafts() if draft.picture.key == picture.key]
        picture.forget_sizes()
        if (record := self._keeper.record_of(picture)) is not None:
            picture.measured = record.diameter or picture.measured
            if record.is_inverted is not None:
                picture.is_inverted = record.is_inverted
            if max(record.channels or (0,)) < picture.source.channels:  # a stranger's project may say anything
                picture.channels = record.channels or None
        for edit in (*edits, *(edit for draft in drafts for edit in draft.edits)):
            truth, taught = self._said_in(picture, edit.kind)
            self._sides.remember(edit, taught)
            edit.apply(truth, taught)
            picture.note_sizes(edit)
        masks = self._keeper.masks_of(picture, self.kind)
        if masks is not None or record is not None or edits or drafts:
            picture.lay_known(np.zeros(shape, np.int32) if masks is None else masks, self.kind)
        if edits:
            self._keeper.do(partial(self._read_back, picture, edits, drafts))

    def _read_back(self, picture: Picture, edits: list[Edit], drafts: list[Draft]) -> None:
        """What was said of a picture may be learnt again (disk thread)."""
        waiting = self._keeper.drafts()
        written = [edit for draft in drafts if draft not in waiting for edit in draft.edits]
        self._pool.read_back(picture, [*edits, *written])
        self._ledger.keep_all_in(picture.key)

    def rebuild(self, pictures: dict[str, Picture]) -> None:
        """Pictures are read with other channels, or at another size."""
        self._keeper.do(partial(self._pool.rebuild, dict(pictures)))

    def begin_project(self) -> None:
        """Begin anew with what another project holds; its pictures are restored one by one."""
        waiting = [draft.entry for draft in self._keeper.drafts() if draft.entry is not None]
        self._ledger.read_back(self._keeper.edits(), waiting)
        self._sides.forget()
        self._aside.clear()
        self._keeper.do(self._pool.forget)
