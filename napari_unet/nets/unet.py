"""The U-Net: one network for the paper's, the common code's and our own settings.

Ronneberger, Fischer & Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation",
MICCAI 2015 (arXiv 1505.04597). The contracting path halves the picture and doubles the channels
`depth` times; the expanding path goes back up and, at every level, also reads what the contracting
path saw there (the skip connection), so that it knows both what is there and exactly where.

=========== ==========================================================================
setting     arguments
=========== ==========================================================================
paper       `norm="none", padding="valid", dropout=0.5`: 572x572 in, 388x388 out
classic     none: BatchNorm, padded convolutions, any size in, the same size out
3-D         `ndim=3`
=========== ==========================================================================
"""

from __future__ import annotations

import itertools
import math
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from numbers import Integral
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_unet.core.errors import check_type

Norm = Literal["batch", "group", "instance", "none"]
Padding = Literal["same", "valid"]
_CONV: dict[int, Callable[..., nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
_CONV_UP: dict[int, Callable[..., nn.Module]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_POOL: dict[int, Callable[..., Tensor]] = {2: F.max_pool2d, 3: F.max_pool3d}
_BATCH: dict[int, Callable[..., nn.Module]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_INSTANCE: dict[int, Callable[..., nn.Module]] = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
_LINEAR = {2: "bilinear", 3: "trilinear"}
DEEPEST = 8


def _norm(kind: Norm, channels: int, ndim: int) -> list[nn.Module]:
    """The normalisation layer of a convolution, or nothing."""
    match kind:
        case "batch":
            return [_BATCH[ndim](channels)]
        case "group":
            return [nn.GroupNorm(math.gcd(8, channels), channels)]
        case "instance":
            return [_INSTANCE[ndim](channels, affine=True)]
        case "none":
            return []


def _check(settings: Mapping[str, Any]) -> None:
    """Refuse settings of which no network can be made."""
    sizes = ("in_channels", "out_channels", "base_channels", "depth", "ndim")
    for name in sizes:
        check_type(settings[name], Integral, f"Give {name} as a whole number.")
    came, out, inside, depth, ndim = (settings[name] for name in sizes)
    if ndim not in _CONV or min(came, out, inside) < 1:
        raise ValueError(f"a U-Net of {ndim} axes, {came} to {out} channels, {inside} inside")
    if not 1 <= depth <= DEEPEST:
        raise ValueError(f"a U-Net of depth {depth}; it must be 1 to {DEEPEST}")
    for name, known in (("norm", get_args(Norm)), ("padding", get_args(Padding))):
        if settings[name] not in known:
            raise ValueError(f"a U-Net of {name} {settings[name]!r}; it must be one of {', '.join(known)}")


class DoubleConv(nn.Sequential):
    """Twice: 3x3 convolution, normalisation, ReLU."""

    def __init__(self, channels: tuple[int, int, int], *, ndim: int, norm: Norm, padding: int) -> None:
        """`channels`: those that come in, those in between, those that go out."""
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(channels):
            # a normalisation subtracts the mean, so a bias before it would do nothing
            layers.append(_CONV[ndim](before, after, 3, padding=padding, bias=norm == "none"))
            layers += [*_norm(norm, after, ndim), nn.ReLU(inplace=True)]
        super().__init__(*layers)


class UNet(nn.Module):
    """A U-Net, (B, C, [Z,] Y, X) to (B, K, [Z,] Y, X); `UNet(3, 19)` has the layers of the common code.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the picture, and of the logits.
    base_channels : int
        Channels at full resolution; twice as many at each level down.
    depth : int
        Number of times that the picture is halved, 1 to 8.
    ndim : {2, 3}
    bilinear : bool
        Up by linear interpolation, with half the channels at the bottom, instead of a transposed
        convolution: fewer parameters.
    norm : {'batch', 'group', 'instance', 'none'}
    padding : {'same', 'valid'}
        `same`: any size in, the same size out. `valid`: as in the paper, only pixels with full
        context come out, so the output is smaller.
    dropout : float
        Probability at the end of the contracting path.

    Raises
    ------
    TypeError
        If a number of channels, levels or axes is no whole number.
    ValueError
        If the network would be deeper than 8 levels, or have none, or no channels, or other than 2 or 3 axes; or
        if there is no such norm or padding.

    Notes
    -----
    `load_state_dict` also takes a state dict of the seed's and of milesial's `UNet`.
    """

    def __init__(  # noqa: PLR0913 - the settings of a network are many, and all named
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        *,
        base_channels: int = 64,
        depth: int = 4,
        ndim: int = 2,
        bilinear: bool = False,
        norm: Norm = "batch",
        padding: Padding = "same",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {
            "in_channels": in_channels,
            "out_channels": out_channels,
            "base_channels": base_channels,
            "depth": depth,
            "ndim": ndim,
            "bilinear": bilinear,
            "norm": norm,
            "padding": padding,
            "dropout": dropout,
        }
        _check(self.settings)
        self.depth, self.ndim, self.bilinear, self.padding = depth, ndim, bilinear, padding
        width = [base_channels * 2**level for level in range(depth + 1)]
        half = 2 if bilinear else 1
        pad = 1 if padding == "same" else 0

        def block(*channels: int) -> DoubleConv:
            return DoubleConv((channels[0], channels[1], channels[2]), ndim=ndim, norm=norm, padding=pad)

        self.encoders = nn.ModuleList([block(in_channels, width[0], width[0])])
        for level in range(1, depth + 1):
            out = width[level] // (half if level == depth else 1)
            self.encoders.append(block(width[level - 1], out, out))
        self.dropout = nn.Dropout(dropout)
        self.ups, self.decoders = nn.ModuleList(), nn.ModuleList()
        for level in range(depth, 0, -1):
            wide, narrow = width[level], width[level - 1]
            self.ups.append(nn.Identity() if bilinear else _CONV_UP[ndim](wide, narrow, 2, stride=2))
            last = narrow // (half if level > 1 else 1)
            self.decoders.append(block(wide, wide // 2 if bilinear else narrow, last))
        self.head = _CONV[ndim](width[0], out_channels, 1)
        self._initialize()
        self.register_load_state_dict_pre_hook(_translate_foreign_keys)  # type: ignore[no-untyped-call]

    def _initialize(self) -> None:
        """He initialisation: every 3x3 convolution passes on a signal of unit variance (He et al. 2015)."""
        if next(self.parameters()).is_meta:
            return  # no numbers yet; and to draw some there, torch would import its compiler for seconds
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def features(self, x: Tensor) -> Tensor:
        """The last decoder's features.

        Parameters
        ----------
        x : (B, C, [Z,] Y, X)

        Returns
        -------
        (B, base_channels, [Z,] Y, X)
            Smaller by the margin of the valid convolutions with `padding="valid"`.
        """
        skips = []
        for level, encoder in enumerate(self.encoders):
            x = encoder(x)  # (B, base * 2^level, Y / 2^level, X / 2^level)
            if level < self.depth:
                skips.append(x)
                x = self._halve(x)  # (B, C, Y/2, X/2)
        x = self.dropout(x)
        for up, decoder in zip(self.ups, self.decoders, strict=True):
            skip = skips.pop()
            x = self._linear_up(x) if self.bilinear else up(x)  # (B, C/2, 2Y, 2X)
            skip, x = self._same_size(skip, x)
            x = decoder(torch.cat([skip, x], dim=1))  # (B, C/2, 2Y, 2X)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of pictures, (B, C, [Z,] Y, X) to (B, K, [Z,] Y, X)."""
        logits: Tensor = self.head(self.features(x))  # (B, K, Y, X)
        return logits

    def _halve(self, x: Tensor) -> Tensor:
        """The greatest of each 2x2 pixels; an axis that is down to one pixel stays."""
        return _POOL[self.ndim](x, [min(2, n) for n in x.shape[2:]])

    def _linear_up(self, x: Tensor) -> Tensor:
        """Twice the size by linear interpolation between the corner pixels."""
        return F.interpolate(x, scale_factor=2, mode=_LINEAR[self.ndim], align_corners=True)

    def _same_size(self, skip: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Crop the skip (valid), or pad what came up from an odd size (same)."""
        missing = [a - b for a, b in zip(skip.shape[2:], x.shape[2:], strict=True)]
        if not any(missing):
            return skip, x
        if self.padding == "valid":
            cut = [slice(m // 2, m // 2 + n) for m, n in zip(missing, x.shape[2:], strict=True)]
            return skip[(slice(None), slice(None), *cut)], x
        return skip, F.pad(x, [side for m in reversed(missing) for side in (m // 2, m - m // 2)])

    @property
    def reach(self) -> int:
        """How much context a block of pixels needs on each side, in pixels: 94 with four levels.

        The block is one that is aligned to the coarsest pixels, of `2**depth`. A convolution sees one
        pixel further, of the size of its level; so does a pooling, and the way back up. (The paper's
        margin is 2 pixels less: its valid convolutions align the coarsest pixels with its output.
        Linear upsampling has no such limit: it depends on where the corners of the picture are.)
        """
        return (6 << self.depth) - 2

    def freeze_norm(self) -> None:
        """Keep the statistics of BatchNorm as they are: small, one-sided batches would spoil them."""
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
                module.eval()


def settings_of(state: dict[str, Tensor]) -> dict[str, Any]:
    """The arguments of `UNet` that fit a state dict of ours, of the seed's or of milesial's.

    Raises
    ------
    KeyError
        If it is no U-Net's.
    """
    state = dict(_rename(state))
    depth = max(int(key.split(".")[1]) for key in state if key.startswith("encoders."))
    first, head = state["encoders.0.0.weight"], state["head.weight"]
    return {
        "in_channels": first.shape[1],
        "out_channels": head.shape[0],
        "base_channels": first.shape[0],
        "depth": depth,
        "ndim": first.ndim - 2,
        "bilinear": "ups.0.weight" not in state,
        "norm": "batch" if "encoders.0.1.running_mean" in state else "none",
    }


# where the seed's and milesial's modules (newer and older names) are in ours
_FOREIGN = (
    (re.compile(r"^(module\.)"), r""),
    (re.compile(r"^inc\.(double_conv|conv\.conv|conv)\."), r"encoders.0."),
    (re.compile(r"^down(\d+)\.(maxpool_conv|mpconv)\.1\.(double_conv|conv)\."), r"encoders.\1."),
    (re.compile(r"^up(\d+)\.up\."), r"ups.\1."),
    (re.compile(r"^up(\d+)\.conv\.(double_conv|conv)\."), r"decoders.\1."),
    (re.compile(r"^outc\.conv\."), r"head."),
)


def _rename(state: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Give foreign keys our names; ours stay."""
    for key, value in state.items():
        name = key
        for pattern, ours in _FOREIGN:
            name = pattern.sub(ours, name)
        if name != key and name.startswith(("ups.", "decoders.")):
            part, number, rest = name.split(".", 2)
            name = f"{part}.{int(number) - 1}.{rest}"  # theirs count from 1
        yield name, value


def _translate_foreign_keys(module: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Rename foreign keys in place before loading, and fold biases that stand before a BatchNorm."""
    if prefix:
        return
    renamed: dict[str, Any] = OrderedDict(_rename(state))
    wanted = module.state_dict(keep_vars=True)
    for key in [k for k in renamed if k.endswith(".bias") and k not in wanted]:
        layer, position, _bias = key.rsplit(".", 2)
        mean = f"{layer}.{int(position) + 1}.running_mean"
        if mean in renamed:
            # the normalisation subtracts the bias again: take it off the mean instead
            renamed[mean] = renamed[mean] - renamed.pop(key)
    state.clear()
    state.update(renamed)
