"""unet-live export: models for other tools."""

from dataclasses import replace

import pytest

from napari_unet.nets.model import load_model
from napari_unet.store.pictures import read_labels
from tests.cli.conftest import assert_refused


@pytest.mark.parametrize(
    ("name", "options"),
    [("net.pt", ()), ("net.foo", ("--format", "torchscript")), ("new/net.pth", ("--format", "pytorch"))],
)
def test_export_writes_what_it_was_asked_for(unet_live, tmp_path, name, options):
    """The file bears the name that was given, whatever its ending."""
    code, out, _ = unet_live("export", "default", "-o", tmp_path / name, *options)
    assert code == 0
    assert str(tmp_path / name) in out
    assert (tmp_path / name).stat().st_size > 1 << 20
    assert len(list((tmp_path / name).parent.iterdir())) == 1


def test_export_names_all_that_it_wrote(unet_live, model, tmp_path):
    """OpenVINO keeps a network in two files."""
    code, out, _ = unet_live("export", model, "-o", tmp_path / "net", "--format", "openvino")
    assert code == 0
    assert out.split() == ["Wrote", str(tmp_path / "net.bin"), "and", f"{tmp_path / 'net.xml'}."]


def test_a_package_predicts(unet_live, folders, model, tmp_path):
    """`--model` takes what `export` wrote."""
    assert unet_live("export", model, "-o", tmp_path / "p.zip")[0] == 0
    code, _, _ = unet_live("predict", folders[0] / "a.tif", "-o", tmp_path / "masks", "--model", tmp_path / "p.zip")
    assert code == 0
    assert read_labels(tmp_path / "masks" / "a.tif").shape == (64, 64)


def test_what_learnt_pictures_inverted_says_so(unet_live, model, tmp_path):
    """A package does it by itself; of the others the user must know."""
    inverted = load_model(model, device="cpu")
    inverted.card = replace(inverted.card, is_inverted=True)
    (tmp_path / "i.safetensors").write_bytes(inverted.to_bytes())
    assert "1 less" in unet_live("export", tmp_path / "i.safetensors", "-o", tmp_path / "i.pt")[1]
    assert "1 less" not in unet_live("export", tmp_path / "i.safetensors", "-o", tmp_path / "i.zip")[1]
    assert "1 less" not in unet_live("export", model, "-o", tmp_path / "j.pt")[1]
    assert load_model(tmp_path / "i.zip", device="cpu").card.is_inverted


def test_a_start_is_exported(unet_live, tmp_path):
    """So are models that have no file of their own."""
    assert unet_live("export", "classes3", "-o", tmp_path / "c.pth")[0] == 0
    assert load_model(tmp_path / "c.pth", device="cpu").net.settings["out_channels"] == 3


def test_export_says_what_is_wrong(unet_live, tmp_path):
    """An unknown format, ending, model, or a folder as the file: one sentence."""
    assert_refused(unet_live("export", "default", "-o", tmp_path / "a", "--format", "keras"), "keras")
    assert_refused(unet_live("export", "default", "-o", tmp_path / "x.foo"), "The ending '.foo' stands for no format")
    assert not list(tmp_path.iterdir())
    assert_refused(unet_live("export", "lost.safetensors", "-o", tmp_path / "a.pt"), "lost.safetensors")
    assert_refused(unet_live("export", "default", "-o", tmp_path), "folder")
    (tmp_path / "file").touch()
    assert_refused(unet_live("export", "default", "-o", tmp_path / "file" / "a.pt"), "Nothing can be written", "file")


def test_export_never_writes_over_the_model(unet_live, model, tmp_path):
    """A state dict in the place of a model would lose its card and its clicks; a link to it is the model, too."""
    own, link = tmp_path / "own.safetensors", tmp_path / "link.pth"
    own.write_bytes(model.read_bytes())
    link.symlink_to(own)
    for output in (own, link):
        assert_refused(
            unet_live("export", own, "-o", output, "--format", "pytorch"), "take the place", "own.safetensors"
        )
    assert own.read_bytes() == model.read_bytes()
