"""What a label layer and its picture know of each other."""

from dataclasses import replace

import numpy as np

from tests.widgets.conftest import predicted


def test_the_number_of_an_object_is_no_class(masks, session):
    """Once classes are predicted the brush has one of them; a class that the user picked stays."""
    assert masks.layer.selected_label == 3
    masks.layer.selected_label = 9  # as after some strokes
    session.state = type(session.state)(kind="classes", classes=("background", "class 1", "class 2"))
    classes = replace(predicted(np.ones((60, 80), int)), kind="classes")
    masks.paste(classes)
    assert masks.layer.selected_label == 1
    masks.layer.selected_label = 2
    masks.paste(classes)
    assert masks.layer.selected_label == 2
