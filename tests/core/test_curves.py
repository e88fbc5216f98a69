"""Curves as SVG: what is drawn is what was given."""

from xml.etree import ElementTree

from napari_unet.core.curves import HEIGHT, WIDTH, curves_svg

SVG = "{http://www.w3.org/2000/svg}"


def test_a_curve_goes_from_left_to_right_and_up():
    """Each curve is one line through its points, inside the picture; better is higher; its name stands beside it."""
    text = curves_svg({"a<b": [(0, 0.2), (10, 0.9)], "other": [(0, 0.5)]}, x="corrections", y="ap50 & more")
    root = ElementTree.fromstring(text)
    lines = [line.get("points") for line in root.iter(f"{SVG}polyline")]
    first = [tuple(map(float, point.split(","))) for point in lines[0].split()]
    assert len(lines) == 2
    assert first[0][0] < first[1][0]
    assert first[0][1] > first[1][1]
    assert all(0 < x < WIDTH and 0 < y < HEIGHT for x, y in first)
    assert {"a<b", "other", "corrections", "ap50 & more"} <= {text.text for text in root.iter(f"{SVG}text")}


def test_no_curve_is_an_empty_picture():
    """Nothing to draw is no reason to fail."""
    assert ElementTree.fromstring(curves_svg({}, x="x", y="y")).find(f"{SVG}polyline") is None
