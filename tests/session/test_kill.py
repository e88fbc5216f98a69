"""A session that is killed while it learns: every correction that was confirmed is there, every file can be read.

The normal run kills 8 times; UNET_LIVE_LONG=1 kills 200 times. UNET_LIVE_FIGURES=FILE writes the figures.
"""

import inspect
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import napari_unet
from napari_unet.core.corrections import Edit
from napari_unet.core.geometry import Box
from napari_unet.core.image import ImageSource
from napari_unet.nets.model import model_from_bytes
from napari_unet.store.project import Project
from tests.session.conftest import discs

pytestmark = pytest.mark.skipif(
    not hasattr(os, "fork"), reason="children are forked, for importing torch takes seconds"
)

KILLS = 200 if os.environ.get("UNET_LIVE_LONG") else 8
KILLS_A_PROJECT = 10  # replaying all earlier corrections after each kill takes time
LONG = 120.0


def make(key, number):
    """The correction of a number: the same here and in the session that is killed."""
    rng = np.random.default_rng(number)
    start, shape = rng.integers(0, 150, 2).tolist(), rng.integers(4, 100, 2).tolist()
    box = Box(tuple(start), (start[0] + shape[0], start[1] + shape[1]))
    return Edit(key, box, np.full(box.shape, number + 1, np.int32), rng.random(shape) < 0.7)


# Imports everything once, then forks a session for each line "folder first-number".
NURSERY = (
    """
import os, sys, threading
from functools import partial
from itertools import count
from pathlib import Path
import numpy as np
import torch._dynamo  # the first training would import it, each time anew
from napari_unet.core.corrections import Edit
from napari_unet.core.geometry import Box
from napari_unet.core.image import ImageSource
from napari_unet.engine.student import Recipe
from napari_unet.session import jobs
from napari_unet.session.session import Session

"""
    + inspect.getsource(make)
    + """
model, picture = sys.argv[1:]
jobs.usable_cores = lambda: 1
jobs.fine_tune = partial(jobs.fine_tune, recipe=Recipe(crop=64, batch=1, round_steps=3, patience=99, tolerance=1.0))

def say(text):
    os.write(1, f"{text}\\n".encode())

def work(folder, first):
    session = Session(model=model, device="cpu")
    kept, pace = session._keeper._on_kept, threading.Semaphore(3)

    def on_kept(draft):
        say(f"kept {int(draft.edits[0].labels.max()) - 1}")
        kept(draft)

    session._keeper._on_kept = on_kept
    session.failed.connect(lambda sentence: say(f"failed {sentence}"))
    session.stepped.connect(lambda step: pace.release())
    session.weights_changed.connect(lambda change: say(f"version {change.version}"))
    opened = session.open_picture("discs", ImageSource.of_array(np.load(picture)), path=Path(folder) / "discs.tif")
    for number in count(int(first)):
        pace.acquire(timeout=0.1)
        session.add_edit(make(opened.key, number))
        if number % 4 == 0:
            session.keep_masks(opened.key, opened.truth.copy())

say("ready")
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        try:
            work(*line.split())
        finally:
            os._exit(1)
    say(f"child {child}")
    os.waitpid(child, 0)
    say("dead")
"""
)


class Nursery:
    """A process that forks sessions, and what they say."""

    def __init__(self, folder, model_file):
        image = discs(shape=(256, 256))[0]
        np.save(folder / "discs.npy", image)
        self.key = ImageSource.of_array(image).key()
        environment = {**os.environ, "PYTHONPATH": str(Path(napari_unet.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", NURSERY, str(model_file), str(folder / "discs.npy")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            bufsize=0,
        )
        self.rest = b""
        assert self.lines_until("ready", LONG)[-1] == "ready"

    def lines_until(self, word, seconds):
        """Lines up to one that begins with a word; those that came in time if it does not."""
        lines, end = [], time.monotonic() + seconds
        while not (lines and lines[-1].startswith(word)):
            if b"\n" in self.rest:
                line, self.rest = self.rest.split(b"\n", 1)
                lines.append(line.decode())
            elif select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
                data = os.read(self.process.stdout.fileno(), 65536)
                assert data, "the nursery died"
                self.rest += data
            else:
                break
        return lines

    def killed(self, folder, first, chance):
        """Run a session and kill it after a random moment; what it said."""
        self.process.stdin.write(f"{folder} {first}\n".encode())
        begun = self.lines_until("child", LONG)
        child = int(begun[-1].split()[1])
        # kills strike while it saves and learns, when new weights have just taken over, and while it starts
        moment = chance.choice(["kept", "kept", "version", "version", ""])
        said = self.lines_until(moment, LONG) if moment else []
        said += self.lines_until("never", chance.uniform(0.0, 0.1 if moment == "version" else 0.6))
        os.kill(child, signal.SIGKILL)
        return said + self.lines_until("dead", LONG)[:-1]

    def close(self):
        """The nursery ends when nothing more is asked."""
        self.process.stdin.close()
        self.process.wait(LONG)
        self.process.stdout.close()


@pytest.fixture
def nursery(tmp_path, model_file):
    """The nursery."""
    new = Nursery(tmp_path, model_file)
    yield new
    new.close()


def numbers_in(said, word):
    """The numbers behind a word."""
    return [int(line.split()[1]) for line in said if line.startswith(f"{word} ")]


def read_project(folder, key):
    """Numbers of the corrections in a project, each compared with what was made; every file is read."""
    with Project.open(folder) as project:
        found = {}
        for edit in project.edits():
            number = int(edit.labels.max()) - 1
            made, seen = found.setdefault(number, (make(key, number), np.zeros(edit.box.shape, bool)))
            assert edit.box == made.box
            assert np.array_equal(edit.labels, made.labels)
            seen |= edit.trusted
        for version in project.versions:
            model_from_bytes(project.model_bytes(version.number))
        for file in (folder / "models").glob("*.safetensors"):
            model_from_bytes(file.read_bytes())
        project.load_masks(key, (256, 256))
        assert not project.read_only
        assert project.problems == []
        # of the last correction only one side may have been written before the kill
        return {number for number, (made, seen) in found.items() if np.array_equal(seen, made.trusted)}, project.current


def report(**figures):
    """Keep figures for the documentation, where a file for them is named."""
    if path := os.environ.get("UNET_LIVE_FIGURES"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"test": "session", **figures}) + "\n")


def test_a_killed_session_loses_nothing_that_was_confirmed(nursery, tmp_path):
    """After each kill -9, while it saves and learns, the project opens and holds every confirmed correction."""
    acknowledged = versions = lost = 0
    wanted, first, newest = set(), 0, 0
    for kill in range(KILLS):
        if kill % KILLS_A_PROJECT == 0:
            folder, wanted, newest = tmp_path / f"project{kill}", set(), 0
            folder.mkdir()
        said = nursery.killed(folder, first, random.Random(kill))
        assert [line for line in said if line.startswith("failed")] == []
        kept = numbers_in(said, "kept")
        assert kept == list(range(first, first + len(kept)))
        acknowledged, wanted = acknowledged + len(kept), wanted | set(kept)
        versions += len(numbers_in(said, "version"))
        if (folder / "discs.unetproj").exists():
            found, current = read_project(folder / "discs.unetproj", nursery.key)
            lost += len(wanted - found)
            assert newest <= current
            newest = current
            wanted = found
        first = max(first, *(number + 1 for number in wanted), first + len(kept)) if wanted else first
    report(kills=KILLS, acknowledged=acknowledged, versions=versions, lost=lost)
    assert lost == 0
    assert acknowledged > KILLS
    assert versions > 0
