"""How long the window lets its user wait: start, first masks, a correction's effect, closing.

    xvfb-run -a -s "-screen 0 1920x1080x24" python tests/benchmarks/window.py

Prints JSON: seconds of each, the median of a few runs in fresh processes.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

RUNS = 3
CLICKED = 30
"""Objects that are clicked on."""


def wait(is_true, seconds: float = 90.0) -> float:
    """Let the window live until something is true; the seconds it took."""
    from qtpy.QtTest import QTest

    start = time.perf_counter()
    while not is_true():
        if time.perf_counter() - start > seconds:
            raise TimeoutError("It did not happen.")
        QTest.qWait(5)
    return time.perf_counter() - start


def measure() -> dict[str, float]:
    """One run in this process."""
    import napari
    import numpy as np
    from qtpy.QtWidgets import QPushButton
    from skimage.io import imread

    import napari_unet
    from napari_unet.core.geometry import Box

    facts: dict[str, float] = {}
    start = time.perf_counter()
    viewer = napari.Viewer()
    facts["napari_start"] = time.perf_counter() - start
    start = time.perf_counter()
    _, workspace = viewer.window.add_plugin_dock_widget("napari-unet-live", "U-Net Live")
    facts["dock_open"] = time.perf_counter() - start

    from napari_unet.widgets.desk import desk_of

    desk = desk_of(viewer)
    desk.session.open_project(Path(tempfile.mkdtemp()) / "bench.unetproj")
    tile = imread(Path(napari_unet.__file__).parent / "samples" / "brightfield.tif")
    truth = imread(Path(napari_unet.__file__).parent / "samples" / "brightfield_truth.tif").astype(np.int32)
    viewer.add_image(np.tile(tile, (2, 2)), name="bench")
    desk.take(desk.images()[-1])
    facts["model_ready"] = wait(lambda: bool(desk.session.state.model))
    wait(lambda: not desk.session.state.predicting)

    workspace.findChild(QPushButton, "predict").click()
    facts["first_masks"] = wait(lambda: desk.masks is not None and bool(desk.masks.layer.data.any()))
    facts["all_masks"] = facts["first_masks"] + wait(lambda: not desk.session.state.predicting)

    changed: list[object] = []
    fresh: list[object] = []
    desk.session.weights_changed.connect(changed.append)
    desk.session.prediction_ready.connect(lambda p: fresh.append(p) if p.version and changed else None)
    layer = desk.masks.layer
    start = time.perf_counter()
    for n in range(1, 4):  # three cells painted anew, as a person would
        box = Box.of_mask(truth == n)
        y, x = (int(c) for c in box.center)
        layer.selected_label, layer.brush_size = desk.masks.next_id, max(box.shape)
        layer.paint((y, x), layer.selected_label)
        desk.settle()
    wait(lambda: bool(fresh))
    facts["correction_to_fresh_masks"] = time.perf_counter() - start

    facts |= clicks(desk)
    desk.session.learn_now()
    desk.predict()
    wait(lambda: desk.session.state.predicting)
    threads = threading.active_count()
    start = time.perf_counter()
    viewer.close()
    wait(lambda: not any("unet-live" in t.name for t in threading.enumerate()))
    facts["close_while_working"] = time.perf_counter() - start
    facts["threads_left"] = float(sum("unet-live" in t.name for t in threading.enumerate()))
    assert threads > 1
    return facts


def clicks(desk) -> dict[str, float]:
    """Seconds from a click to its mask in view while the model learns: in a region that is new, and in one that is not.

    The user is at work, so one core is left to the window.
    """
    import numpy as np
    from qtpy.QtTest import QTest
    from skimage.measure import regionprops

    from napari_unet.widgets.gestures import gestures_of

    gestures, clicker = gestures_of(desk.viewer), gestures_of(desk.viewer).clicker
    desk.session.learn_now()
    wait(lambda: desk.session.state.learning == "learning")
    gestures.start("click")
    axes, first, again, learning = (desk.masks.layer.ndim - 2, desk.masks.layer.ndim - 1), [], [], []
    found = [region.centroid for region in regionprops(desk.masks.layer.data) if region.area > 60]
    for y, x in found[:: max(1, len(found) // CLICKED)]:
        for times in (first, again, again):
            desk.be_active()
            start = time.perf_counter()
            clicker.take("on", [[y, x]], axes)
            wait(lambda: not clicker.is_waiting)
            times.append(time.perf_counter() - start)
            learning.append(desk.session.state.learning == "learning")
        clicker.drop()
        QTest.qWait(200)
    gestures.stop()
    return {
        "click_first_p95": float(np.percentile(first, 95)),
        "click_again_median": float(np.median(again)),
        "click_again_p95": float(np.percentile(again, 95)),
        "clicks_while_learning": float(np.mean(learning)),
    }


def main() -> None:
    """Some runs, each in a fresh process; the medians."""
    if sys.argv[1:] == ["--one"]:
        print(json.dumps(measure()))
        return
    command = [sys.executable, __file__, "--one"]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(RUNS)]
    rows = [json.loads(run.stdout.splitlines()[-1]) for run in runs]
    print(json.dumps({key: round(statistics.median(row[key] for row in rows), 3) for key in rows[0]}, indent=1))


if __name__ == "__main__":
    main()
