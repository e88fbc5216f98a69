"""The tools in hand."""

import pytest

from napari_unet.widgets.clicker import clicker_of
from napari_unet.widgets.gestures import gestures_of


@pytest.mark.filterwarnings("ignore:Contours are not displayed")
def test_in_3d_the_tool_is_put_away(qtbot, masks, viewer, session):
    """Nobody sees there what is pointed at: the object in work is kept, and keys and clicks do nothing."""
    gestures, clicker, said = gestures_of(viewer), clicker_of(viewer), []
    gestures.start("click")
    clicker.take("on", [[30.0, 30.0]], (0, 1))
    qtbot.waitUntil(lambda: not clicker.is_waiting)
    gestures.said.connect(said.append)
    viewer.dims.ndisplay = 3
    assert not gestures.tool
    assert len(session.edits) == 1
    viewer.cursor.position = (20, 20)
    for tool in ("delete", "accept", "join", "click"):
        said.clear()
        if tool == "click":
            gestures.start(tool)
        else:
            gestures.at_cursor(tool, masks.layer)
        assert said[-1] == "Switch to the 2-D view to correct objects."
    assert len(session.edits) == 1
