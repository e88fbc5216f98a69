"""What a step of learning takes beside another program that is busy, and alone; as OpenMP waits by itself, and as here.

    python tests/benchmarks/busy.py

Each figure is of a process of its own, for OpenMP reads how to wait when torch is loaded. Prints Markdown.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

STEPS = 12
BUSY = "while True: pass"
OURS, BY_ITSELF = "1000", "300000"
"""How often OpenMP of GNU looks before it sleeps: as the package has it, and where nobody says anything."""


def step_seconds() -> float:
    """Median seconds of a step of the optimiser, with crops and gradients."""
    import numpy as np

    from napari_unet import Correction, load_model
    from napari_unet.core.synthetic import synthetic_pictures
    from napari_unet.engine.student import FINE_TUNE, Student

    made = synthetic_pictures(8, 1)
    corrections = [
        Correction(m.image, m.labels, np.ones(m.labels.shape, bool), held_out=False, channels_first=True) for m in made
    ]
    student, times = Student(load_model("default", device="cpu"), FINE_TUNE, 0), list[float]()
    for _ in range(STEPS + 2):
        start = time.perf_counter()
        for _ in range(FINE_TUNE.batch):
            student.study(corrections)
        student.advance(FINE_TUNE.learning_rate)
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


def in_process(spins: str) -> float:
    """`step_seconds` of a process that waits so."""
    environment = {**os.environ, "GOMP_SPINCOUNT": spins}
    done = subprocess.run(
        [sys.executable, __file__, "--step"], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return float(done.stdout)


def main() -> None:
    """Measure, and print a table."""
    if sys.argv[1:] == ["--step"]:
        print(step_seconds())
        return
    print("| seconds a step | alone | beside a busy program |\n| --- | --- | --- |")
    for name, spins in (("OpenMP by itself", BY_ITSELF), ("as the package has it wait", OURS)):
        alone = in_process(spins)
        other = subprocess.Popen([sys.executable, "-c", BUSY], start_new_session=True)  # as from another terminal
        try:
            print(f"| {name} | {alone:.2f} | {in_process(spins):.2f} |", flush=True)
        finally:
            other.kill()


if __name__ == "__main__":
    main()
