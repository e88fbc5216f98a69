"""Processes that are killed, and processes that write at the same time: what was acknowledged is there.

The normal run kills 20 times; UNET_LIVE_LONG=1 kills 200 times. UNET_LIVE_FIGURES=FILE writes the figures.
"""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from napari_unet.store.project import Project

KILLS = 200 if os.environ.get("UNET_LIVE_LONG") else 20
KILLS_A_PROJECT = 10  # replaying all earlier edits after each kill takes time

# What every child begins with: the same edit for the same number, here and there.
PREPARED = """
import sys
from itertools import count
from pathlib import Path
import numpy as np
from napari_unet.core.corrections import Edit
from napari_unet.core.geometry import Box
from napari_unet.store.files import FileSystem
from napari_unet.store.project import Project
from napari_unet.store.records import VersionRecord

folder, first = Path(sys.argv[1]), int(sys.argv[2])

def make(number):
    rng = np.random.default_rng(number)
    start, shape = rng.integers(0, 40, 2).tolist(), rng.integers(1, 200, 2).tolist()
    box = Box(tuple(start), (start[0] + shape[0], start[1] + shape[1]))
    return Edit("p", box, rng.integers(0, 9, shape, dtype=np.int32), rng.random(shape) < 0.7, time=float(number))
"""

STROKES = (
    PREPARED
    + """
with Project.open_or_create(folder) as project:
    for number in count(first):
        project.add_edit(make(number))
        print(number, flush=True)
"""
)

EVERYTHING_ELSE = (
    PREPARED
    + """
with Project.open_or_create(folder) as project:
    for number in count(first):
        project.save_model(np.random.default_rng(number).bytes(100_000), VersionRecord(number))
        print(number, flush=True)
        project.save_settings({"number": number})
        project.save_masks("p", np.full((300, 300), number))
"""
)


def made(number):
    """Corner, labels and trusted mask of the edit that the child made."""
    rng = np.random.default_rng(number)
    start, shape = rng.integers(0, 40, 2).tolist(), rng.integers(1, 200, 2).tolist()
    return tuple(start), rng.integers(0, 9, shape, dtype=np.int32), rng.random(shape) < 0.7


def killed(program, folder, first, seed):
    """Run a program and kill it after a random moment; the numbers that it acknowledged."""
    chance = random.Random(seed)
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(folder), str(first)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # most kills strike while it saves, some while it starts, opens or makes the project
    line = child.stdout.readline() if chance.random() < 0.8 else ""
    delay = chance.uniform(0, 0.15) if line else chance.uniform(0.1, 0.6)
    try:
        child.wait(timeout=delay)
    except subprocess.TimeoutExpired:
        child.kill()
    # not communicate(): that would pass over lines which readline() has taken in already
    with child.stdout, child.stderr:
        rest, errors = child.stdout.read(), child.stderr.read()
    assert child.wait() != 0
    assert errors == ""
    numbers = [int(number) for number in (line + rest).split("\n")[:-1]]
    assert numbers == list(range(first, first + len(numbers)))
    return numbers


def report(name, **figures):
    """Keep figures for the documentation, where a file for them is named."""
    if path := os.environ.get("UNET_LIVE_FIGURES"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"test": name, **figures}) + "\n")


def test_no_acknowledged_stroke_is_lost_by_a_kill(tmp_path):
    """After each kill -9 the project opens for writing, and every acknowledged edit is there and equal."""
    unreadable = lost = acknowledged = 0
    wanted, folder, first = [], tmp_path, 0
    for kill in range(KILLS):
        if kill % KILLS_A_PROJECT == 0:
            wanted, folder = [], tmp_path / f"{kill}.unetproj"
        numbers = killed(STROKES, folder, first, seed=kill)
        acknowledged += len(numbers)
        wanted += numbers
        with Project.open_or_create(folder) as project:
            found = {int(edit.time): edit for edit in project.edits()}
            unreadable += bool(project.problems) or project.read_only
        lost += len(set(wanted) - set(found))
        for number in numbers:
            start, labels, trusted = made(number)
            assert found[number].box.start == start
            assert np.array_equal(found[number].labels, labels)
            assert np.array_equal(found[number].trusted, trusted)
        # one more edit may be there: saved, but killed before it was acknowledged
        assert len(set(found) - set(wanted)) <= 1
        first = max([first, *(number + 1 for number in found)])
        wanted = list(found)
    report("strokes", kills=KILLS, acknowledged=acknowledged, lost=lost, unreadable=unreadable)
    assert (lost, unreadable) == (0, 0)
    assert acknowledged > KILLS


def test_a_kill_leaves_the_old_model_settings_and_masks_or_the_new_ones(tmp_path):
    """After each kill -9 the current model is the last acknowledged one or the next, whole; settings and masks too."""
    unreadable = torn = acknowledged = 0
    folder, first = tmp_path / "cells.unetproj", 1
    for kill in range(KILLS // 2):
        numbers = killed(EVERYTHING_ELSE, folder, first, seed=1000 + kill)
        acknowledged += len(numbers)
        last = numbers[-1] if numbers else first - 1
        with Project.open_or_create(folder) as project:
            masks = project.load_masks("p", (300, 300))
            unreadable += bool(project.problems) or project.read_only
            current, settings = project.current, project.settings.get("number", 0)
            whole = current == 0 or project.model_bytes(current) == np.random.default_rng(current).bytes(100_000)
            torn += not whole or current not in (last, last + 1)
            torn += settings not in (last - 1, last)
            torn += masks is not None and not (masks == masks[0, 0]).all()
            torn += (0 if masks is None else int(masks[0, 0])) not in (last - 1, last)
        first = current + 1
        # what the killed one had not come to is brought up, so that the next round's figures can be told apart
        with Project.open(folder) as project:
            project.save_settings({"number": current})
            project.save_masks("p", np.full((300, 300), current))
    report("models, settings, masks", kills=KILLS // 2, acknowledged=acknowledged, torn=torn, unreadable=unreadable)
    assert (torn, unreadable) == (0, 0)


LOCKLESS = (
    PREPARED
    + """
class SilentLock(FileSystem):
    def lock(self, path):
        return lambda: None

with Project.open(folder, files=SilentLock()) as project:
    print("open", flush=True)
    sys.stdin.readline()
    for number in range(first, first + 50):
        project.add_edit(make(number))
        if number % 25 == 0:
            project.save_model(b"x%d" % number, VersionRecord(number + 1))
"""
)


def test_two_processes_that_both_write_lose_nothing(tmp_path):
    """Even where the lock fails (a share that does not know it), all of 2 x 50 edits are kept."""
    folder = tmp_path / "cells.unetproj"
    Project.create(folder).close()
    children = [
        subprocess.Popen(
            [sys.executable, "-c", LOCKLESS, str(folder), str(first)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for first in (0, 50)
    ]  # fmt: skip
    assert [child.stdout.readline() for child in children] == ["open\n"] * 2
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        assert child.communicate()[1] == ""
        assert child.returncode == 0
    with Project.open(folder) as project:
        assert sorted(int(edit.time) for edit in project.edits()) == list(range(100))
        assert project.problems == []
        assert not project.read_only
    assert len(list((folder / "models").iterdir())) == 4


HOLDING = (
    PREPARED
    + """
project = Project.open(folder)
print(project.read_only_reason or "mine", flush=True)
sys.stdin.readline()
"""
)


@pytest.mark.parametrize("end", ["kill", "exit"])
def test_the_lock_of_another_process_holds_until_it_ends(tmp_path, end):
    """While another process lives its project opens for reading only, told within a second; then it can be written."""
    folder = tmp_path / "cells.unetproj"
    Project.create(folder).close()
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(folder), "0"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdout.readline() == "mine\n"
    begin = time.perf_counter()
    with Project.open(folder) as second:
        assert time.perf_counter() - begin < 1
        assert second.read_only_reason.startswith("Another window has this project open (on ")
    if end == "kill":
        child.kill()
    child.communicate("\n")
    with Project.open(folder) as third:
        assert not third.read_only
        assert str(os.getpid()) in (folder / "lock.json").read_text()
