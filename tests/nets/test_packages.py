"""Packages of bioimage.io as models: what is ours in them is found, and nothing else is ever opened."""

import io
import zipfile

import pytest
import torch

from napari_unet.core.errors import ModelError
from napari_unet.nets.model import load_model
from napari_unet.nets.packages import OURS, is_package, stamp_of, weights_in
from napari_unet.nets.unet import UNet
from tests.nets.test_model import make, same_weights


def archive(path, **contents):
    """A zip archive with some files; the last _ of a name stands for a point."""
    with zipfile.ZipFile(path, "w") as file:
        for name, data in contents.items():
            file.writestr(".".join(name.rsplit("_", 1)), data)
    return path


def state_dict(net) -> bytes:
    """A state dict as torch saves it."""
    content = io.BytesIO()
    torch.save(net.state_dict(), content)
    return content.getvalue()


def test_our_own_file_in_a_package_is_the_model(tmp_path):
    """Card and weights are those of the file in it, whatever else the package holds."""
    model = make(diameter=31.5)
    path = archive(tmp_path / "p.zip", rdf_yaml="{}", model_safetensors=model.to_bytes(), a_pt=state_dict(UNet()))
    again = load_model(path, device="cpu")
    assert again.card == model.card
    assert again.to_bytes() == model.to_bytes()


@pytest.mark.parametrize("name", ["", "rdf.yaml"])
def test_a_package_may_be_unpacked(tmp_path, name):
    """Its folder is as good as the archive, and so is the description in it."""
    (tmp_path / "rdf.yaml").write_text("{}")
    (tmp_path / OURS).write_bytes(make().to_bytes())
    assert load_model(tmp_path / name, device="cpu").card.name == "small"
    folder = tmp_path / "folder.zip"  # whatever its name
    folder.mkdir()
    (folder / "rdf.yaml").write_text("{}")
    (folder / OURS).write_bytes(make().to_bytes())
    assert load_model(folder, device="cpu").card.name == "small"


def test_a_state_dict_of_a_known_network_is_taken(tmp_path):
    """A package of others is a model if its weights are those of a U-Net of the seed's kind; the others are passed."""
    net = UNet(3, 2, base_channels=4, depth=2)
    path = archive(tmp_path / "p.zip", rdf_yaml="{}", a_pt=b"a program", weights_pth=state_dict(net))
    model = load_model(path, device="cpu")
    assert same_weights(model.net.state_dict(), net.state_dict())
    assert model.card.kind == "classes"


def test_a_package_without_a_network_of_ours_is_refused(tmp_path):
    """A program is not run; the sentence names the package and what was in it."""
    path = archive(tmp_path / "p.zip", rdf_yaml="{}", weights_pt=b"a program")
    with pytest.raises(ModelError, match=r"p\.zip.*weights\.pt"):
        load_model(path, device="cpu")
    with pytest.raises(ModelError, match="holds no U-Net"):
        load_model(archive(tmp_path / "q.zip", rdf_yaml="{}"), device="cpu")


@pytest.mark.parametrize("damage", [lambda data: b"no archive", lambda data: data[:200], lambda data: _flipped(data)])
def test_a_damaged_package_is_refused(tmp_path, damage):
    """Torn, flipped or no archive at all: one sentence with its name."""
    path = archive(tmp_path / "p.zip", model_safetensors=make().to_bytes())
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ModelError, match=r"p\.zip"):
        load_model(path, device="cpu")


def _flipped(data: bytes) -> bytes:
    """The same with a byte changed in the middle, which the archive's own sum tells."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def test_what_is_a_package(tmp_path):
    """An archive or a described folder is one; a folder of pictures and a lost file are not."""
    assert not is_package(tmp_path)
    assert not is_package(tmp_path / "lost.zip")
    path = archive(tmp_path / "p.zip", notes_txt="")
    assert is_package(path)
    assert list(weights_in(path)) == []


def test_a_link_that_leads_nowhere_is_no_part_of_a_package(tmp_path):
    """A folder that was synchronised in part may hold one; its other files still tell it from another package."""
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "notes.txt").symlink_to("lost.txt")
    assert [(name, size) for name, _, size in stamp_of(tmp_path)] == [("model.safetensors", 7)]
