"""Which way of running a network is taken."""

import pytest

from napari_unet.core.speeds import Speed, fastest, speeds_from_json, speeds_to_json

EXACT = Speed("torch", "float32", 0.4)
QUICK = Speed("openvino", "bfloat16", 0.1, same=0.9995, score_change=-0.002)


def test_the_fastest_is_taken():
    """Of those whose masks are alike."""
    assert fastest([EXACT, QUICK], ("torch", "float32")) == QUICK


@pytest.mark.parametrize("fields", [{"same": 0.998}, {"score_change": -0.006}, {"score_change": 0.006}])
def test_other_masks_do_not_count_as_faster(fields):
    """A way that gives other masks is not taken, however fast, and though they may be better."""
    wrong = Speed(**{"form": "torch", "number_type": "bfloat16", "seconds": 0.01, **fields})
    assert not wrong.is_alike
    assert fastest([EXACT, wrong], ("torch", "bfloat16")) == EXACT


@pytest.mark.parametrize(("seconds", "taken"), [(0.098, QUICK.seconds), (0.05, 0.05)])
def test_a_hair_decides_nothing(seconds, taken):
    """The usual way stays unless another one is clearly faster."""
    other = Speed("torch", "bfloat16", seconds)
    assert fastest([EXACT, QUICK, other], ("openvino", "bfloat16")).seconds == taken


def test_tables_come_back_from_json():
    """What was written is read."""
    tables = {"here": [EXACT, QUICK], "there": [EXACT]}
    assert speeds_from_json(speeds_to_json(tables)) == tables


@pytest.mark.parametrize("text", ["", "[]", "3", '{"a": 1}', '{"a": [{"form": "torch"}]}', "{" * 9999, '{"a": [1]}'])
def test_what_is_no_table_is_refused(text):
    """A damaged cache raises ValueError and nothing else."""
    with pytest.raises(ValueError, match="no tables"):
        speeds_from_json(text)
