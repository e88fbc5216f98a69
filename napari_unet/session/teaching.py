"""Teaching: what the user sets, from the label layer to the disk and to what the model learns from."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt

from napari_unet.core.corrections import Edit
from napari_unet.core.errors import ImageError
from napari_unet.core.geometry import Box
from napari_unet.core.picture import Picture
from napari_unet.core.sides import Sides
from napari_unet.engine.pool import Pool
from napari_unet.session.keeper import Draft, Keeper
from napari_unet.session.ledger import Entry, Ledger


class Teaching:
    """Takes corrections, has them written, and gives to the training what is on disk.

    Parameters
    ----------
    keeper, pool, ledger : Keeper, Pool, Ledger
        Of the session.
    fail : callable
        Tells the user a sentence.
    """

    def __init__(self, keeper: Keeper, pool: Pool, ledger: Ledger, fail: Callable[[str], object]) -> None:
        self._keeper, self._pool, self._ledger, self._fail = keeper, pool, ledger, fail
        self._sides = Sides()
        self._last_time = 0.0

    def add(self, edit: Edit, picture: Picture) -> None:
        """Keep what the user set. On which side of the split it is, and its time, are decided here."""
        edit = replace(edit, time=self._now(), taught=None)
        parts = self._sides.divide(edit, picture.taught)
        if parts:
            picture.note_sizes(edit)
            self._keep(parts, picture, self._ledger.add(edit))

    def withdraw(
        self, picture: Picture, box: Box, labels: npt.NDArray[np.int32], taught: npt.NDArray[np.uint8]
    ) -> None:
        """Take back the newest correction with this box; what was set after it stays."""
        mask = self._ledger.withdraw(picture.key, box)
        self._keep([Edit(picture.key, box, labels, mask, "undo", time=self._now(), taught=taught)], picture, None)

    def _now(self) -> float:
        """The time, in seconds since the epoch; never the same twice, for it tells corrections apart."""
        self._last_time = max(time.time(), self._last_time + 1e-6)
        return self._last_time

    def _keep(self, edits: list[Edit], picture: Picture, entry: Entry | None) -> None:
        """Take edits over, and hand them to the disk."""
        for edit in edits:
            edit.apply(picture.truth, picture.taught)
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

    def restore(self, picture: Picture, kind: str) -> None:
        """Bring back what the project knows of a picture: how it is read, what was set, and masks of a `kind`."""
        shape = picture.source.shape
        edits = [e for e in self._keeper.edits() if e.picture == picture.key and len(e.box.start) == len(shape)]
        drafts = [draft for draft in self._keeper.drafts() if draft.picture.key == picture.key]
        if (record := self._keeper.record_of(picture)) is not None:
            picture.measured = record.diameter or picture.measured
            if max(record.channels or (0,)) < picture.source.channels:  # a stranger's project may say anything
                picture.channels = record.channels or None
        for edit in (*edits, *(edit for draft in drafts for edit in draft.edits)):
            self._sides.remember(edit, picture.taught)
            edit.apply(picture.truth, picture.taught)
            picture.note_sizes(edit)
        masks = self._keeper.masks_of(picture)
        if masks is not None or edits or drafts:
            picture.lay_known(np.zeros(shape, np.int32) if masks is None else masks, kind)
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
        self._keeper.do(self._pool.forget)
