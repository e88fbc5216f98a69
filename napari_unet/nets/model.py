"""Model: a network, its card and its version; the only holder of weights."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
import secrets
import struct
import warnings
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any, Self

import safetensors.torch
import torch
from torch import Tensor

from napari_unet.core.card import SHIPPED, ModelCard, check_name
from napari_unet.core.errors import DeviceError, ModelError, about_file
from napari_unet.nets.packages import OURS, is_package, weights_in
from napari_unet.nets.unet import UNet, settings_of
from napari_unet.nets.weights import all_finite, as_stored, in_channels_last, net_of

CARD = "card"
DEFAULT = "default"
SCRATCH = "scratch"
REHEARSAL = ".rehearsal.npz"
NET, CLICK = "", "click."
"""What stands before the names of weights: of the network, and of its click head."""
LARGEST_HEADER = 16 << 20
_CLASSES = re.compile(r"classes([3-9])?")
A_MODEL = "Give a model: load_model('default')."


def shipped_models() -> dict[str, Path]:
    """Names and files of the models that come with the package."""
    folder = Path(str(resources.files("napari_unet"))) / "weights"
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def pick_device(name: str = "auto") -> torch.device:
    """The device that a name stands for: 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'.

    Raises
    ------
    DeviceError
        If there is no such device here.
    """
    has_mps = torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu")
    kind, colon, number = str(name).partition(":")
    here = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(has_mps)}
    if kind not in here or (colon and not number.isdecimal()):
        raise DeviceError(f"'{name}' is no device. Use auto, cpu, cuda, cuda:N or mps.")
    if int(number or 0) >= here[kind]:
        raise DeviceError(f"This computer has no device '{name}'. Use --device auto to take what there is.")
    return torch.device(name)


class Model:
    """A network with its card.

    Attributes
    ----------
    net : UNet
        In evaluation mode, on `device`. Changed only by `replace_weights`.
    click : UNet or None
        The click head (`nets/click.py`), or none.
    card : ModelCard
    version : int
        0 for what was loaded; each take-over counts one up.
    rehearsal : Path or None
        The file of pictures that it must not forget (`engine/rehearsal.py`), if one lies beside its own.
    lost : float
        What its score has lost in take-overs that were as good as not worse, and not won back since.
    origin : Model or None
        What it was before it learnt from corrections; None if it never did.
    strayed : bool
        Whether it has left that behind, as one does that meets what it did not know.

    Raises
    ------
    ModelError
        If masks cannot be made of what the network gives.
    """

    def __init__(
        self,
        net: UNet,
        card: ModelCard,
        *,
        click: UNet | None = None,
        device: str | torch.device = "cpu",
        version: int = 0,
    ) -> None:
        if net.padding == "valid":
            raise ModelError("This network gives masks smaller than the picture. Put its weights into a padded one.")
        if card.kind == "objects" and net.settings["out_channels"] != 2:
            raise ModelError("A model of objects gives 2 channels: foreground and distance. This network does not.")
        self.device = torch.device(device)
        self.net = in_channels_last(net.to(self.device)).eval()
        self.card = replace(card, architecture=dict(net.settings))
        self.replace_click(click)
        self.version = version
        self.rehearsal: Path | None = None
        self.lost = 0.0
        self.origin: Model | None = None
        self.strayed = False

    @classmethod
    def create(cls, card: ModelCard, *, seed: int = 0, device: str = "auto") -> Self:
        """A model with random weights for the architecture of `card`."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = UNet(**card.architecture)
        return cls(net, card, device=pick_device(device))

    def copy(self) -> Model:
        """The same weights in networks of their own."""
        net = net_of(self.net.settings, self.net.state_dict())
        click = None if self.click is None else net_of(self.click.settings, self.click.state_dict())
        other = Model(net, self.card, click=click, device=self.device, version=self.version)
        other.rehearsal, other.origin, other.strayed = self.rehearsal, self.origin, self.strayed
        return other

    def state(self) -> dict[str, Tensor]:
        """All weights: those of the network, and with `click.` before their names those of the click head."""
        return {**self.net.state_dict(), **_named(CLICK, self.click.state_dict() if self.click is not None else {})}

    def replace_weights(self, state: Mapping[str, Tensor], *, version: int | None = None) -> None:
        """Take over other weights of the same network, and of the click head if there are any of it.

        The version counts up unless it is given.

        Raises
        ------
        ModelError
            If they are not finite, or of another network; the old weights stay.
        """
        if not all_finite(state):
            raise ModelError("The new weights hold values that are not numbers. The old ones stay in use.")
        parts = _parted(state)
        targets = [(net, parts[name]) for name, net in ((NET, self.net), (CLICK, self.click)) if parts[name]]
        for net, new in targets:
            own = net.state_dict() if net is not None else {}
            if own.keys() != new.keys() or any(own[k].shape != new[k].shape for k in own):
                raise ModelError("These weights belong to another network. The old ones stay in use.")
        for net, new in targets:
            if net is not None:
                net.load_state_dict(new)
        self.version = self.version + 1 if version is None else version

    def replace_click(self, click: UNet | None) -> None:
        """Take another click head, or none; the version stays, for the masks do."""
        self.click = None if click is None else in_channels_last(click.to(self.device)).eval()
        self.card = replace(self.card, click={} if click is None else dict(click.settings))

    def to_bytes(self) -> bytes:
        """The content of a `.safetensors` file: weights in float16, and the card."""
        tensors = {name: as_stored(value).contiguous() for name, value in self.state().items()}
        return safetensors.torch.save(tensors, metadata={CARD: self.card.to_json()})

    def save(self, path: str | Path) -> None:
        """Write one `.safetensors` file; a torn one never takes the place of a whole one."""
        path = Path(path)
        check_name(path)
        if not path.parent.is_dir():
            raise ModelError(f"There is no folder '{path.parent}'. Make it, or save the model elsewhere.")
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        with about_file(path):
            try:
                with part.open("wb") as file:
                    file.write(self.to_bytes())
                    file.flush()
                    os.fsync(file.fileno())
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)

    def sha256(self) -> str:
        """Fingerprint of weights and card."""
        return hashlib.sha256(self.to_bytes()).hexdigest()


def _named(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights with a prefix before their names."""
    return {prefix + name: value for name, value in state.items()}


def _parted(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Weights of the network and of the click head, each under its own names."""
    parts: dict[str, dict[str, Tensor]] = {NET: {}, CLICK: {}}
    for name, value in state.items():
        part = CLICK if name.startswith(CLICK) else NET
        parts[part][name.removeprefix(part)] = value
    return parts


@torch.inference_mode(mode=False)  # else a caller's own would make weights that nobody may change
def load_model(name_or_path: str | Path = DEFAULT, *, device: str = "auto") -> Model:
    """Load a model.

    Parameters
    ----------
    name_or_path : str or Path
        A shipped name (`default` is the generalist), a start (`scratch`, `classes`, `classes3` to `classes9`),
        a `.safetensors` file of ours, a `.pth` state dict of the seed's or milesial's U-Net, or a package of
        bioimage.io that holds one of these.
    device : {'auto', 'cpu', 'cuda', 'cuda:N', 'mps'}

    Raises
    ------
    ModelError
        If there is no such model, or it cannot be used.
    """
    shipped = shipped_models()
    if (start := _start(str(name_or_path), device)) is not None:
        return start
    path = shipped.get(str(name_or_path), Path(str(name_or_path)))
    if not path.is_file() and not is_package(path):
        raise ModelError(f"There is no model '{name_or_path}'. Shipped are: {', '.join(SHIPPED)}; or name a file.")
    target = pick_device(device)
    if is_package(path):
        return _from_package(path, target)
    if path.suffix.lower() in (".pth", ".pt"):
        return _from_pth(path.read_bytes(), path.name, target)
    if path.suffix.lower() != ".safetensors":
        raise ModelError(f"'{path.name}' is no model: a model is a .safetensors or a .pth file, or a .zip.")
    model = model_from_bytes(path.read_bytes(), name=path.name, device=target)
    model.rehearsal = rehearsal_beside(path)
    return model


def rehearsal_beside(name_or_path: str | Path) -> Path | None:
    """The file of pictures that a model must not forget, if one lies beside it."""
    path = shipped_models().get(str(name_or_path), Path(name_or_path))
    beside = path.with_suffix(REHEARSAL) if path.name else path
    return beside if beside.is_file() else None


def _start(name: str, device: str) -> Model | None:
    """A model to begin something of one's own from, made of the generalist; None if the name is none of these."""
    found = _CLASSES.fullmatch(name)
    if found is not None:
        return classes_of(load_model(DEFAULT, device=device), int(found[1] or 2), name)
    if name != SCRATCH:
        return None
    network = load_model(DEFAULT, device=device).card.architecture
    card = ModelCard(name, architecture=network, trained_on="nothing yet; random weights of seed 0")
    return Model.create(card, seed=0, device=device)


def classes_of(model: Model, count: int, name: str = "classes") -> Model:
    """A model that tells classes apart, each of which begins as the foreground of a model of objects.

    Parameters
    ----------
    model : Model
        Of objects; stays as it is.
    count : int
        Classes, the background included.
    name : str
    """
    state = dict(model.net.state_dict())
    for part in ("head.weight", "head.bias"):  # the background's logit is 0: a sigmoid as a soft-max
        foreground = state[part][:1]
        state[part] = torch.cat([torch.zeros_like(foreground), *[foreground] * (count - 1)])
    state["head.bias"][1:] -= math.log(count - 1)  # together they are as likely as the foreground was
    card = ModelCard(
        name,
        kind="classes",
        classes=("background", *(f"class {n}" for n in range(1, count))),
        diameter=model.card.diameter,
        trained_on=f"the foreground of {model.card.name}: {model.card.trained_on}",
        parent=model.sha256(),
    )
    return Model(net_of({**model.net.settings, "out_channels": count}, state), card, device=model.device)


def model_from_bytes(data: bytes, *, name: str = "model", device: str | torch.device = "cpu") -> Model:
    """A model from the content of a `.safetensors` file of ours."""
    card = _read_card(data, name)
    try:
        parts = _parted(safetensors.torch.load(data))
        net = net_of(card.architecture, parts[NET])
        click = net_of(card.click, parts[CLICK]) if card.click else None
    except (safetensors.SafetensorError, RuntimeError, TypeError, KeyError, ValueError) as error:
        raise ModelError(f"'{name}' is damaged, or not a model of U-Net Live ({_first_line(error)}).") from error
    return _healthy(Model(net, card, click=click, device=device), name)


def _healthy(model: Model, name: str) -> Model:
    """The model, if all its weights are numbers."""
    if not all_finite(model.state()):
        raise ModelError(f"'{name}' holds values that are not numbers: its training went wrong. Use another model.")
    return model


def _read_card(data: bytes, name: str) -> ModelCard:
    """The card in the header of a safetensors file."""
    size = struct.unpack("<Q", data[:8])[0] if len(data) > 8 else LARGEST_HEADER + 1
    if size > min(LARGEST_HEADER, len(data) - 8):
        raise ModelError(f"'{name}' is damaged or no .safetensors file.")
    try:
        metadata = json.loads(data[8 : 8 + size]).get("__metadata__")
    except (ValueError, AttributeError, RecursionError) as error:
        raise ModelError(f"'{name}' is damaged or no .safetensors file.") from error
    card = metadata.get(CARD) if isinstance(metadata, dict) else None
    if not isinstance(card, str):
        raise ModelError(f"'{name}' has no card of U-Net Live: it was written by another program.")
    return ModelCard.from_json(card)


def _from_package(path: Path, device: torch.device) -> Model:
    """The model in a package of bioimage.io: ours, else a state dict that fits."""
    reasons: list[str] = []
    for name, data in weights_in(path):
        if name == OURS:
            return model_from_bytes(data, name=path.name, device=device)
        try:
            return _from_pth(data, name, device)
        except ModelError as error:
            reasons.append(str(error))
    raise ModelError(
        f"'{path.name}' holds no U-Net of ours, the seed's or milesial's. {' '.join(reasons[:1])}".rstrip()
    )


def _from_pth(data: bytes, name: str, device: torch.device) -> Model:
    """A state dict of the seed's or milesial's network; refused if it holds anything but tensors."""
    try:
        with warnings.catch_warnings():  # a TorchScript archive is warned of, and refused below in our words
            warnings.simplefilter("ignore")
            state: Any = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises UnpicklingError, RuntimeError, EOFError, ... as it likes
        raise ModelError(f"'{name}' is not a plain state dict, and nothing else is ever opened.") from error
    if isinstance(state, dict):
        state.pop("mask_values", None)  # milesial's own training adds this list
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ModelError(f"'{name}' holds more than tensors. Save it as torch.save(net.state_dict(), PATH).")
    if sum(v.nbytes for v in state.values()) > len(data):
        raise ModelError(f"'{name}' claims more weights than it holds. Save it again, or use another model.")
    card = _card_beside(state)
    try:
        net = net_of(card.architecture if card else settings_of(state), state)
    except (KeyError, ValueError, RuntimeError, IndexError, TypeError) as error:
        raise ModelError(f"'{name}' is no U-Net of the seed's or milesial's kind ({_first_line(error)}).") from error
    names = ("background", *(f"class {i}" for i in range(1, max(int(net.settings["out_channels"]), 2))))
    card = card or ModelCard(name=Path(name).stem, kind="classes", classes=names)
    return _healthy(Model(net, card, device=device), name)


def _card_beside(state: object) -> ModelCard | None:
    """The card in what torch keeps beside the tensors of a state dict; None in those of other programs."""
    beside = getattr(state, "_metadata", None)
    card = beside.get(CARD) if isinstance(beside, dict) else None
    return ModelCard.from_json(card) if isinstance(card, str) else None


def _first_line(error: BaseException) -> str:
    """What an exception says, in one line."""
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
