"""How long a view waits that the user moves to while a picture of 16384 x 16384 pixels is predicted.

    python tests/benchmarks/pan.py [SIDE]

A real session without a window, on a lazily made picture. The view jumps to random places; measured is the time from
the jump to the start of the first tile in the new view, with the user at work (one core is left to the window) and with
all cores. Prints Markdown.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from skimage.io import imread

import napari_unet
from napari_unet.core.geometry import Box
from napari_unet.core.image import ImageSource
from napari_unet.engine import predict as predicting
from napari_unet.session.session import Session

SIDE = 16384
VIEW = 900
JUMPS = 40


class Repeated:
    """A picture that repeats a small one, made where it is read."""

    def __init__(self, tile: np.ndarray, side: int) -> None:
        self.tile, self.shape, self.dtype, self.ndim = tile, (side, side), tile.dtype, 2

    def __getitem__(self, part: tuple[slice, ...]) -> np.ndarray:
        """A part of it."""
        rows, columns = (np.arange(*p.indices(n)) for p, n in zip(part, self.shape, strict=True))
        return self.tile[np.ix_(rows % self.tile.shape[0], columns % self.tile.shape[1])]


def main() -> None:
    """Jump about."""
    side = int(sys.argv[1]) if len(sys.argv) > 1 else SIDE
    tile = imread(Path(napari_unet.__file__).parent / "samples" / "fluorescence.tif")
    started: list[tuple[float, Box]] = []
    change, real = threading.Condition(), predicting.read_tile

    def noted(model, plane, wanted):
        with change:
            started.append((time.perf_counter(), wanted.core))
            change.notify_all()
        return real(model, plane, wanted)

    predicting.read_tile = noted
    session = Session()
    session.open_project(Path(tempfile.mkdtemp()) / "pan.unetproj")
    picture = session.open_picture("large", ImageSource.of_array(Repeated(tile, side)))
    while not session.state.model:
        time.sleep(0.05)
    picture.measured = session.state.diameter
    random = np.random.default_rng(0)
    print("| the user | median (ms) | 95th percentile (ms) | worst (ms) |")
    print("| --- | --- | --- | --- |")
    for is_active in (True, False):
        waits = []
        session.predict(picture.key, Box((0, 0), (VIEW, VIEW)))
        for _ in range(JUMPS):
            time.sleep(random.uniform(0.3, 1.2))
            y, x = random.integers(0, side - VIEW, 2).tolist()
            view = Box((y, x), (y + VIEW, x + VIEW))
            if is_active:
                session.user_is_active()
            start = time.perf_counter()
            session.look_at(picture.key, view)
            with change:
                change.wait_for(
                    lambda start=start, view=view: any(
                        when > start and not core.intersect(view).is_empty for when, core in started[-20:]
                    ),
                    10,
                )
            waits.append(1000 * (time.perf_counter() - start))
        median, late, worst = np.percentile(waits, [50, 95, 100])
        print(f"| {'at work' if is_active else 'watching'} | {median:.0f} | {late:.0f} | {worst:.0f} |", flush=True)
    session.close()


if __name__ == "__main__":
    main()
