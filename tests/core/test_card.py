"""The card that travels with weights."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.core.card import ModelCard, whole_name
from napari_unet.core.errors import ModelError

CARD = ModelCard(
    name="nuclei",
    kind="classes",
    architecture={"in_channels": 3, "out_channels": 2},
    classes=("background", "nucleus"),
    diameter=17.5,
    trained_on="12 pictures",
    parent="abc",
    scores={"ap50": 0.8},
)


def changed(**values) -> str:
    """The card with other values."""
    return json.dumps({**json.loads(CARD.to_json()), **values})


def test_a_card_comes_back_as_it_was():
    """What is written is read back equal, on one line."""
    assert ModelCard.from_json(CARD.to_json()) == CARD
    assert "\n" not in CARD.to_json()


def test_what_is_missing_has_a_default():
    """A card that says only what it is can be read."""
    card = ModelCard.from_json('{"format": 1, "kind": "objects"}')
    assert card == ModelCard()
    assert card.in_channels == 1


def test_what_is_not_known_is_passed_over():
    """A field of a later version that keeps the format does no harm."""
    assert ModelCard.from_json(changed(colour="red")) == CARD


@pytest.mark.parametrize("text", [changed(format=2), changed(format=2, kind="points"), changed(format=9, classes=3)])
def test_a_newer_card_asks_for_an_update(text):
    """A card of a newer format says that it is newer, whatever else is new in it."""
    with pytest.raises(ModelError, match="newer U-Net Live"):
        ModelCard.from_json(text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "cannot be read"),
        ("{", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("[]", "none of U-Net Live"),
        ("{}", "none of U-Net Live"),
        ('{"kind": "objects"}', "none of U-Net Live"),
        (changed(kind="points"), "objects or classes"),
        (changed(kind=["objects"]), "objects or classes"),
        (changed(architecture=[]), "impossible \\(architecture\\)"),
        (changed(classes=4), "impossible \\(classes\\)"),
        (changed(name=None), "impossible \\(name\\)"),
        (changed(scores=[], parent=1), "impossible \\(parent, scores\\)"),
        (changed(diameter="wide"), "impossible \\(diameter\\)"),
        (changed(diameter=0), "impossible \\(diameter\\)"),
        (changed(diameter=-3.0), "impossible \\(diameter\\)"),
        (changed(diameter=float("nan")), "impossible \\(diameter\\)"),
        (changed(diameter=float("inf")), "impossible \\(diameter\\)"),
        (changed(foreground=0), "impossible \\(foreground\\)"),
        (changed(foreground="half", separation=[]), "impossible \\(foreground, separation\\)"),
        (changed(separation=1.0), "impossible \\(separation\\)"),
        (changed(separation=float("nan")), "impossible \\(separation\\)"),
    ],
)
def test_what_is_no_card_is_a_sentence(text, sentence):
    """Whatever is wrong with a card, the user reads one sentence."""
    with pytest.raises(ModelError, match=sentence):
        ModelCard.from_json(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*json.loads(CARD.to_json()), "other"]), JSON))
def test_any_json_is_a_card_or_a_sentence(values):
    """No value of any field raises anything but a ModelError."""
    try:
        card = ModelCard.from_json(changed(**values))
    except ModelError:
        return
    assert card.diameter > 0


def test_a_model_is_called_the_same_from_any_folder(tmp_path, monkeypatch):
    """A file and a package's folder by their whole paths; a shipped model by its name, though a file is called so."""
    monkeypatch.chdir(tmp_path)
    for name in ("default", "mine.safetensors"):
        (tmp_path / name).touch()
    (tmp_path / "package").mkdir()
    named = ["default", "mine.safetensors", "package", "scratch", "lost"]
    whole = [str(tmp_path / name) for name in ("mine.safetensors", "package")]
    assert [whole_name(name) for name in named] == ["default", *whole, "scratch", "lost"]
