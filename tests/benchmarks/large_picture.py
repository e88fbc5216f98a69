"""Time and peak memory of headless prediction against the number of pixels.

    python tests/benchmarks/large_picture.py [SIDE ...]

Each size runs in a process of its own, on a picture made of the fluorescence sample side by side. Prints Markdown.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

SIDES = (1024, 2048, 4096, 8192)


def measure(side: int) -> dict[str, float]:
    """Segment a picture of `side` squared in this process."""
    from skimage.io import imread

    import napari_unet
    from napari_unet import load_model, segment

    tile = imread(Path(napari_unet.__file__).parent / "samples" / "fluorescence.tif")
    times = [-(-side // n) for n in tile.shape]
    picture = np.tile(tile, times)[:side, :side].copy()
    model = load_model(device="cpu")
    segment(model, picture[:512, :512])  # warm
    start = time.perf_counter()
    labels = segment(model, picture)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"side": side, "seconds": seconds, "peak_gb": peak, "objects": int(labels.max())}


def main() -> None:
    """Each size in a fresh process."""
    if len(sys.argv) == 3 and sys.argv[1] == "--one":
        print(json.dumps(measure(int(sys.argv[2]))))
        return
    sides = [int(a) for a in sys.argv[1:]] or list(SIDES)
    print("| side | seconds | microseconds a pixel | peak memory (GB) | objects |")
    print("| --- | --- | --- | --- | --- |")
    for side in sides:
        out = subprocess.run([sys.executable, __file__, "--one", str(side)], capture_output=True, text=True, check=True)
        row = json.loads(out.stdout)
        each = 1e6 * row["seconds"] / side**2
        print(f"| {side} | {row['seconds']:.1f} | {each:.2f} | {row['peak_gb']:.2f} | {row['objects']} |", flush=True)


if __name__ == "__main__":
    main()
