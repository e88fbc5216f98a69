"""The commands that open napari: what they say where they cannot, and the tour's own decisions."""

import json
import signal
import subprocess
import sys
from types import SimpleNamespace

import napari
import numpy as np
import pytest

from napari_unet import app, window
from napari_unet.core.annotator import Fault
from napari_unet.core.errors import UNetLiveError
from napari_unet.widgets import tour
from napari_unet.widgets.tour import Tour, _free_folder, print_facts, strokes


def run_app(monkeypatch, capsys, *arguments):
    """Run the command line here; its exit code and what it said."""
    monkeypatch.setattr(sys, "argv", ["unet-live", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        app.main()
    said = capsys.readouterr()
    return end.value.code, said.out, said.err


def boxes(*sides, shape=(40, 40)):
    """Labels: square number n with its corner at (y, x), so large."""
    labels = np.zeros(shape, np.int32)
    for number, (y, x, side) in enumerate(sides, start=1):
        labels[y : y + side, x : x + side] = number
    return labels


NOTHING = np.zeros((40, 40), bool)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has windows by way of DISPLAY")
@pytest.mark.parametrize("arguments", [(), ("open",), ("demo",), ("demo", "--tour", "tour")], ids=" ".join)
def test_without_a_display_it_says_so(monkeypatch, capsys, arguments):
    """One sentence tells how to go on, before Qt would abort the process."""
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    code, out, err = run_app(monkeypatch, capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("There is no display.")
    assert err.count("\n") == 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has windows by way of DISPLAY")
def test_the_installed_command_fails_without_a_traceback():
    """The process itself ends with 2 and one line on stderr."""
    code = "from napari_unet.app import main; main()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env={})
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1


def pressed_while_loading(loaded, handler):
    """What `unet-live info` does if Ctrl+C comes while a module is loaded, and was handled so before."""
    code = f"""
import signal, sys
signal.signal(signal.SIGINT, signal.{handler})

class Presses:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "{loaded}":
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Presses)
from napari_unet.app import main
main()
"""
    return subprocess.run([sys.executable, "-c", code, "info"], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("loaded", ["napari_unet.window", "typer", "numpy", "skimage"])
def test_ctrl_c_is_obeyed_while_the_command_is_loaded(loaded):
    """Exit code 130 and one word, whatever is being imported: the command takes a second to load."""
    result = pressed_while_loading(loaded, "default_int_handler")
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "Stopped.\n")


@pytest.mark.parametrize("loaded", ["typer", "skimage"])
def test_ctrl_c_stays_ignored_in_the_background(loaded):
    """What a script runs in the background is not for the keyboard, loaded or not."""
    result = pressed_while_loading(loaded, "SIG_IGN")
    assert (result.returncode, result.stderr) == (0, "")


def test_ctrl_c_is_obeyed_between_loading_and_the_command(monkeypatch, capsys):
    """The same end where nothing else takes care of it."""

    def run(command):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(window, "run", run)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert run_app(monkeypatch, capsys) == (130, "", "Stopped.\n")
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_missing_picture_is_named(monkeypatch, capsys, tmp_path):
    """A picture that is not there is named before a window opens."""
    monkeypatch.setenv("DISPLAY", ":0")
    code, _, err = run_app(monkeypatch, capsys, "open", tmp_path / "lost.tif")
    assert code == 2
    assert err == f"There is no picture '{tmp_path / 'lost.tif'}'.\n"


def test_a_tour_into_a_file_is_a_mistake_that_is_named(monkeypatch, capsys, tmp_path):
    """What is written there at the end needs a folder: that is said before a window opens."""
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(tour, "play", lambda folder: pytest.fail("It begins to play."))
    (tmp_path / "file").touch()
    code, out, err = run_app(monkeypatch, capsys, "demo", "--tour", tmp_path / "file")
    assert (code, out) == (2, "")
    assert err.startswith(f"Nothing can be written into '{tmp_path / 'file'}'")
    assert err.count("\n") == 1


@pytest.mark.parametrize(("height", "width", "brush"), [(20, 10, 5), (5, 30, 5), (3, 3, 9), (1, 1, 3), (16, 16, 4)])
def test_strokes_fill_an_object_and_stay_in_it(height, width, brush):
    """A round brush along the strokes reaches every row, and goes past the object by no more than its own width."""
    mask = np.zeros((40, 40), bool)
    mask[6 : 6 + height, 5 : 5 + width] = True
    rows = [y for stroke in strokes(mask, brush) for y, _ in stroke]
    columns = [x for stroke in strokes(mask, brush) for _, x in stroke]
    assert all(min(abs(y - row) for row in rows) <= brush / 2 + 0.5 for y in range(6, 6 + height))
    assert min(columns) >= 5 - 0.5
    assert max(columns) <= 5 + width + 0.5


@pytest.mark.parametrize(("is_mended", "mended", "said"), [(True, 2, 1), (False, 4, 0)], ids=["mended", "in vain"])
def test_the_tour_says_that_all_is_right_only_if_it_is(monkeypatch, is_mended, mended, said):
    """Each object that is wrong is mended, a second time if that did not help, and then left; nothing false is said."""
    wrong = [Fault("missed", 50, (), (3,)), Fault("outline", 40, (2,), (2,)), Fault("outline", 20, (1,), (1,))]
    acts, clicks = [], []
    played = Tour.__new__(Tour)
    masks = SimpleNamespace(layer=SimpleNamespace(data=np.zeros((4, 4), int)))
    played.desk, played.workspace, played.corrections = SimpleNamespace(masks=masks), None, 0

    def mend(fault, shown, truth, *, again):
        acts.append((fault.true[0], again))
        if is_mended:
            wrong.remove(fault)

    monkeypatch.setattr(played, "mend", mend)
    for name in ("rest", "shoot"):
        monkeypatch.setattr(played, name, lambda *_: None)
    monkeypatch.setattr(tour, "faults", lambda shown, truth: wrong)
    monkeypatch.setattr(tour, "_button", lambda dock, name: SimpleNamespace(click=lambda: clicks.append(name)))
    played.correct(np.zeros((4, 4), int))
    assert acts == ([(3, False), (2, False)] if is_mended else [(3, False), (3, True), (2, False), (2, True)])
    assert (len(acts), len(clicks), played.corrections) == (mended, said, mended + said)


def test_each_tour_has_a_project_folder_of_its_own(tmp_path):
    """A second tour into the same folder does not go on with the first one's project."""
    first = _free_folder(tmp_path)
    first.mkdir()
    assert first.name == "tour-1.unetproj"
    assert _free_folder(tmp_path).name == "tour-2.unetproj"


def test_the_facts_of_a_tour_are_told_in_one_paragraph():
    """What was measured is said in words, before and after."""
    scores = {"ap50_before": 0.5, "ap50_after": 0.75, "unseen_ap50_before": 0.4, "unseen_ap50_after": 0.6}
    told = print_facts({**scores, "corrections": 3, "clicked": 1, "rounds": 2, "worst_tick_ms": 41.7})
    assert told.startswith("3 corrections (1 by clicks), 2 rounds of learning")
    assert "0.50 -> 0.75" in told
    assert "0.40 -> 0.60" in told
    assert told.endswith("42 ms.")


@pytest.mark.parametrize(
    ("rounds", "problems", "sentence"),
    [(0, [], "no round of learning"), (2, ["the disk is full."], "the disk is full")],
)
def test_a_tour_in_which_something_failed_fails(monkeypatch, tmp_path, rounds, problems, sentence):
    """What the app said of a fault, and a tour without learning; what was measured is written all the same."""
    viewer = SimpleNamespace(close=lambda: None)
    played = SimpleNamespace(play=lambda: {"rounds": rounds}, problems=problems, viewer=viewer)
    monkeypatch.setattr(tour, "Tour", lambda folder, size: played)
    with pytest.raises(UNetLiveError, match=sentence):
        tour.play(tmp_path)
    assert json.loads((tmp_path / "tour.json").read_text()) == {"rounds": rounds}


def test_a_picture_that_no_reader_takes_is_named(monkeypatch, capsys, tmp_path):
    """One sentence, and the window that was opened for it is closed."""
    closed = []

    class Viewer:
        def open(self, path):
            raise ValueError("not a TIFF file")

        def close(self):
            closed.append(self)

    path = tmp_path / "garbage.tif"
    path.touch()
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(napari, "Viewer", Viewer)
    code, _, err = run_app(monkeypatch, capsys, "open", path)
    assert (code, len(closed)) == (2, 1)
    assert err == f"'{path}' cannot be opened (not a TIFF file). Is it whole, and a picture?\n"


def test_failures_of_the_app_are_errors_for_users():
    """The error for a missing display is one that the command line says as it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "platform", "linux")
        patch.delenv("DISPLAY", raising=False)
        patch.delenv("WAYLAND_DISPLAY", raising=False)
        with pytest.raises(UNetLiveError):
            window._need_display()
