"""Time and peak memory of `unet-live predict` against the number of pixels, and with two processes instead of one.

    python tests/benchmarks/large_picture.py [--workers] [SIDE ...]

Pictures are the fluorescence sample side by side, written row by row; each runs in a process of its own, on the size of
objects given. What the command takes for a picture of 64 x 64 pixels (to start, and to load the model) is taken off.
With --workers each size runs on one process of dask.distributed and on two. Prints Markdown.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile
import zarr
from skimage.io import imread

import napari_unet

SIDES = (2048, 4096, 8192, 16384)
DIAMETER = "24"
CODE = """
import json, resource, runpy, sys
from napari_unet.app import main
try:
    main()
finally:
    peak = [resource.getrusage(who).ru_maxrss / 1e6 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(json.dumps(peak), file=sys.stderr)
"""


def write_picture(path: Path, side: int) -> None:
    """A picture of `side` squared, of which no more than some rows are held."""
    tile = imread(Path(napari_unet.__file__).parent / "samples" / "fluorescence.tif")
    wide = np.tile(tile, (1, -(-side // tile.shape[1])))[:, :side]
    picture = tifffile.memmap(path, shape=(side, side), dtype=tile.dtype, bigtiff=True, photometric="minisblack")
    for top in range(0, side, len(tile)):
        picture[top : top + len(tile)] = wide[: min(len(tile), side - top)]
    picture.flush()


def run(picture: Path, out: Path, *options: str) -> tuple[float, float, int]:
    """Seconds, peak memory in GB of the process or of its largest child, and objects."""
    start = time.perf_counter()
    command = [sys.executable, "-c", CODE, "predict", str(picture), "-o", str(out), "--diameter", DIAMETER, *options]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    seconds = time.perf_counter() - start
    peak = max(float(part) for part in said.strip().splitlines()[-1].strip("[]").split(","))
    found = out / f"{picture.stem}.tif"
    if found.exists():
        return seconds, peak, int(tifffile.imread(found).max())
    labels = zarr.open_array(out / f"{picture.stem}.ome.zarr" / "0", mode="r")
    return seconds, peak, max(int(labels[top : top + 512].max()) for top in range(0, labels.shape[0], 512))


def main() -> None:
    """Each size in a fresh process."""
    options = sys.argv[1:]
    by_workers = "--workers" in options
    sides = [int(a) for a in options if a.isdecimal()] or list(SIDES)
    ways = [("--workers", "1"), ("--workers", "2")] if by_workers else [()]
    print("| side | processes | seconds | microseconds a pixel | peak memory of one (GB) | objects |")
    print("| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for way in ways:
            tiny = Path(folder) / "tiny.tif"
            write_picture(tiny, 64)
            idle = min(run(tiny, Path(folder) / f"idle-{way}-{n}", *way)[0] for n in range(2))
            for side in sides:
                picture = Path(folder) / f"of-{side}.tif"
                write_picture(picture, side)
                seconds, peak, objects = run(picture, Path(folder) / f"out-{way}-{side}", *way)
                each = 1e6 * (seconds - idle) / side**2
                row = (
                    f"| {side} | {way[1] if way else 1} | {seconds - idle:.1f} | {each:.3f} | {peak:.2f} | {objects} |"
                )
                print(row, flush=True)
                picture.unlink()


if __name__ == "__main__":
    main()
