"""A large picture block by block, on as many processes as there are, and on from where it stopped."""

from __future__ import annotations

import dataclasses
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_unet.cli.program import Way, model_in_way
from napari_unet.core.errors import DeviceError, about_file
from napari_unet.core.events import Prediction
from napari_unet.core.geometry import Box
from napari_unet.core.image import ImageSource
from napari_unet.core.tiles import Tile
from napari_unet.store.blocks import Blocks
from napari_unet.store.held import HeldChunks
from napari_unet.store.ome_zarr import create_label_zarr
from napari_unet.store.pictures import read_picture, write_labels

if TYPE_CHECKING:
    from napari_unet.engine.predict import Plane
    from napari_unet.engine.segment import Writable
    from napari_unet.nets.model import Model

LARGE = 2**26
"""Voxels above which labels are not held in memory, but written to an OME-Zarr block by block."""
SHARED = 2**22
"""Voxels above which several processes, where there are some, share one picture, and do not take one each."""

ONE_AT_A_TIME = threading.Lock()
"""A worker of several threads gives them all to one block: networks are not run by two threads at once."""


@dataclass(frozen=True)
class Plan:
    """All that a process must know to predict a block: plain values, the same wherever they are sent.

    Attributes
    ----------
    picture, model, device : str
        As on the command line; whole paths.
    key : str
        The picture's identity: another one of the same name makes other blocks.
    way : (str, str)
        In which the model predicts.
    sha256 : str
        Of the model: another one makes other blocks.
    channels : tuple of int or None
    is_inverted : bool
        Whether the model reads the picture with dark and bright exchanged.
    scale : float
        The picture is resized by this before the network.
    core : int
        Side of a block.
    folder : str
        Where blocks are kept.
    """

    picture: str
    key: str
    model: str
    device: str
    way: Way
    sha256: str
    channels: tuple[int, ...] | None
    is_inverted: bool
    scale: float
    core: int
    folder: str


class Pool(Protocol):
    """What computes blocks elsewhere: a client of dask.distributed."""

    def submit(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Begin; what it gives has a `result()`."""
        ...


def predict_large(
    model: Model,
    source: ImageSource,
    plan: Plan,
    target: Path,
    *,
    pool: Pool | None,
    report: Callable[[int, int], None],
) -> None:
    """Labels of a picture into a TIFF, or into an OME-Zarr, of which never more than some blocks are held.

    Blocks that an earlier run has made are not made again. They are joined in the same order whoever made them, so
    that the labels are the same, too. Where a device runs out of memory, all begins anew with blocks of half the side.

    Parameters
    ----------
    model, source : Model, ImageSource
        Those of the plan.
    plan : Plan
    target : Path
        What to write: a folder if it ends in .zarr.
    pool : Pool, optional
        Computes the blocks; by default this process does.
    report : callable
        Called with how many blocks are done, and how many there are.

    Raises
    ------
    DeviceError
        If not even small blocks fit into the device's memory.
    """
    import torch

    from napari_unet.engine.segment import NO_MEMORY, SMALLEST_CORE

    folder = Path(plan.folder)
    while True:
        # in a folder of their own: some worker may still be busy with a block of the size before
        sized = dataclasses.replace(plan, folder=str(folder / str(plan.core)))
        try:
            _predict_in_blocks(model, source, sized, target, pool, report)
        except torch.OutOfMemoryError as error:
            if plan.core <= SMALLEST_CORE:
                raise DeviceError(NO_MEMORY) from error
            plan = dataclasses.replace(plan, core=plan.core // 2)
        else:
            shutil.rmtree(folder, ignore_errors=True)
            return


def _predict_in_blocks(
    model: Model, source: ImageSource, plan: Plan, target: Path, pool: Pool | None, report: Callable[[int, int], None]
) -> None:
    """The same, with blocks of the size of the plan."""
    from napari_unet.engine.segment import Assembly

    Blocks(Path(plan.folder)).begin(dataclasses.asdict(plan))
    tiles = tiles_of(model, source, plan)
    made = _made_elsewhere(plan, tiles, pool) if pool is not None else _made_here(model, source, plan, tiles)
    with _labels_in(target, source) as whole:
        assembly = Assembly(whole)
        for done, (tile, labels) in enumerate(made, start=1):
            with about_file(target):
                assembly.add(Prediction("", tile.around, tile.core, labels, model.card.kind, np.zeros((), np.float16)))
            report(done, len(tiles))
        with about_file(target):
            if model.card.kind == "objects":
                assembly.finish()


@contextmanager
def _labels_in(target: Path, source: ImageSource) -> Iterator[Writable]:
    """Labels to fill: in memory for a TIFF, else on disk; the file is there when all of it is."""
    if target.suffix != ".zarr":
        labels = np.zeros(source.shape, np.int32)
        yield labels
        write_labels(target, labels, source)
        return
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    with about_file(target):
        array = create_label_zarr(
            part, source.shape, axes=source.letters, voxel_size=source.voxel_size, name=target.name
        )
    held = HeldChunks(array)
    yield held
    with about_file(target):
        held.flush()
        part.replace(target)


def tiles_of(model: Model, source: ImageSource, plan: Plan) -> list[Tile]:
    """The blocks of all planes of a picture; their places in this list are their numbers."""
    return [tile for plane in _planes(model, source, plan) for tile in plane.grid.tiles()]


def compute_block(plan: Plan, number: int, threads: int) -> None:
    """Predict one block and keep it; for any process on any machine that sees the same files."""
    import torch

    with ONE_AT_A_TIME:
        torch.set_num_threads(threads)
        model, source = opened(plan)
        deque(_made_here(model, source, plan, tiles_of(model, source, plan), [number]), maxlen=0)


@lru_cache(maxsize=1)
def opened(plan: Plan) -> tuple[Model, ImageSource]:
    """The model and the picture of a plan, opened once in each process."""
    source = read_picture(Path(plan.picture))
    model = model_in_way(plan.model, plan.device, plan.way)
    reading = source if plan.channels is None else source.select(plan.channels)
    return model, reading.inverted() if plan.is_inverted else reading


def _planes(model: Model, source: ImageSource, plan: Plan) -> Iterator[Plane]:
    """The planes (or volumes) of a picture."""
    from napari_unet.engine.predict import plane_of

    for lead in np.ndindex(*source.shape[: max(len(source.shape) - model.net.ndim, 0)]):
        box = Box(lead, tuple(i + 1 for i in lead))
        yield plane_of(model, source, box, scale=plan.scale, core=plan.core)


def _made_here(
    model: Model, source: ImageSource, plan: Plan, tiles: Sequence[Tile], wanted: Sequence[int] | None = None
) -> Iterator[tuple[Tile, Any]]:
    """Blocks in their order, those that are missing predicted and kept by this process."""
    from napari_unet.engine.segment import predicted_tiles

    blocks = Blocks(Path(plan.folder))
    wanted = range(len(tiles)) if wanted is None else wanted
    missing = [number for number in wanted if not blocks.has(number)]
    plane = next(_planes(model, source, plan))  # a tile says itself in which plane it lies
    predicted = predicted_tiles(model, plane, [tiles[number] for number in missing])
    lacking = set(missing)
    for number in wanted:
        tile = tiles[number]
        if number in lacking:
            labels = next(predicted).labels
            blocks.write(number, labels)
        else:
            labels = blocks.read(number, tile.around.shape)
        yield tile, labels


def _made_elsewhere(plan: Plan, tiles: Sequence[Tile], pool: Pool) -> Iterator[tuple[Tile, Any]]:
    """Blocks in their order, those that are missing predicted by other processes, all at once."""
    from napari_unet.cli.cluster import threads_of

    blocks = Blocks(Path(plan.folder))
    threads = threads_of(pool)
    running = {
        number: pool.submit(compute_block, plan, number, threads, pure=False)
        for number in range(len(tiles))
        if not blocks.has(number)
    }
    for number, tile in enumerate(tiles):
        if number in running:
            running.pop(number).result()
        yield tile, blocks.read(number, tile.around.shape)
