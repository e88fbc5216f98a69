"""HeldChunks: an array on disk, of which the chunks that were used last are held in memory."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_unet.core.geometry import Box

if TYPE_CHECKING:
    import zarr


class HeldChunks:
    """An array on disk that is read and written by slices, without reading or writing a chunk for each of them.

    Blocks that lie beside each other share chunks: written at once, a chunk would be packed up to nine times.

    Parameters
    ----------
    array : zarr.Array
    most : int
        Bytes of chunks that may be held; one is, always.

    Attributes
    ----------
    shape : tuple of int
    """

    def __init__(self, array: zarr.Array[Any], most: int = 2**28) -> None:
        self.shape: tuple[int, ...] = array.shape
        self._array, self._most = array, most
        self._held: dict[tuple[int, ...], npt.NDArray[Any]] = {}  # the one used last is the last
        self._bytes, self._changed = 0, set[tuple[int, ...]]()

    def __getitem__(self, part: tuple[slice, ...]) -> npt.NDArray[Any]:
        """A part of the array, as a copy."""
        box = _box_of(part)
        values = np.empty(box.shape, self._array.dtype)
        for index, common in self._chunks_of(box):
            chunk, place = self._chunk(index)
            values[common.within(box).slices] = chunk[common.within(place).slices]
        return values

    def __setitem__(self, part: tuple[slice, ...], values: npt.NDArray[Any]) -> None:
        """Write a part of the array; it is on disk after `flush`, if not before."""
        box = _box_of(part)
        for index, common in self._chunks_of(box):
            chunk, place = self._chunk(index)
            chunk[common.within(place).slices] = values[common.within(box).slices]
            self._changed.add(index)

    def flush(self) -> None:
        """Write what has changed, and hold nothing any more."""
        for index in list(self._held):
            self._let_go(index)

    def _place(self, index: tuple[int, ...]) -> Box:
        """Where a chunk lies."""
        start = tuple(i * n for i, n in zip(index, self._array.chunks, strict=True))
        return Box(start, tuple(a + n for a, n in zip(start, self._array.chunks, strict=True))).clip(self.shape)

    def _chunks_of(self, box: Box) -> Iterator[tuple[tuple[int, ...], Box]]:
        """The chunks that a box touches, and where it does."""
        axes = zip(box.start, box.stop, self._array.chunks, strict=True)
        for index in product(*(range(start // n, -(-stop // n)) for start, stop, n in axes)):
            yield index, self._place(index).intersect(box)

    def _chunk(self, index: tuple[int, ...]) -> tuple[npt.NDArray[Any], Box]:
        """A chunk and where it lies; the one that was used longest ago makes room for it."""
        place = self._place(index)
        if index in self._held:
            self._held[index] = chunk = self._held.pop(index)
            return chunk, place
        self._held[index] = chunk = np.asarray(self._array[place.slices])
        self._bytes += chunk.nbytes
        while self._bytes > self._most and len(self._held) > 1:
            self._let_go(next(iter(self._held)))
        return chunk, place

    def _let_go(self, index: tuple[int, ...]) -> None:
        """Hold a chunk no more, but on disk."""
        if index in self._changed:
            self._array[self._place(index).slices] = self._held[index]
            self._changed.remove(index)
        self._bytes -= self._held.pop(index).nbytes


def _box_of(part: tuple[slice, ...]) -> Box:
    """The box that slices cut out."""
    return Box(tuple(s.start for s in part), tuple(s.stop for s in part))
