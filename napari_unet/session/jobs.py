"""What the device thread does for a session. The only file of the session that imports torch: there, in that thread."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from napari_unet.core.card import ModelCard
from napari_unet.core.click_mask import ClickMask
from napari_unet.core.corrections import Correction, Mask
from napari_unet.core.errors import ModelError
from napari_unet.core.events import Measured, ObjectMask, Prediction, Progress, TrainStep, WeightsChanged
from napari_unet.core.geometry import Box
from napari_unet.core.instances import InstanceSettings
from napari_unet.core.picture import Picture
from napari_unet.core.prompts import Prompts
from napari_unet.engine.choice import measure_speeds, measured_on, take_fastest
from napari_unet.engine.click import ClickSegmenter
from napari_unet.engine.device import backend_for, backend_of, device_names, usable_cores
from napari_unet.engine.measure import measure
from napari_unet.engine.predict import Plane, look_closer, plane_of, predict
from napari_unet.engine.train import Control, fine_tune
from napari_unet.nets.model import Model, load_model, model_from_bytes, rehearsal_beside
from napari_unet.store.speeds import read_speeds, write_speeds

LARGEST_KEPT = 100_000_000
"""Pixels of a plane up to which the network's outputs are kept, for thresholds to act at once (4 bytes each)."""
QUICK_TILE = 320
"""Side of tiles in planes that are larger: nobody waits for all of them, and the first in view is there sooner."""
SMALLEST_TILE = 64


@dataclass(frozen=True)
class Loaded:
    """A model is in use now: its card, its version and where it runs."""

    card: ModelCard
    version: int
    device: str
    devices: tuple[str, ...]


@dataclass(frozen=True)
class Request:
    """What is to be predicted.

    Attributes
    ----------
    picture : Picture
    number : int
        Later requests have higher ones.
    settings : InstanceSettings
    measures : bool
        Measure first how the model sees the picture, and wait for the picture to follow.
    expected : float or None
        Diameter of the objects that the user set in other pictures, in pixels.
    given : float or None
        Diameter that the user gave, so that it is not measured.
    """

    picture: Picture
    number: int
    settings: InstanceSettings
    measures: bool
    expected: float | None = None
    given: float | None = None


class Device:
    """The model and the planes it has predicted; used by the device thread alone."""

    def __init__(self) -> None:
        self.model: Model | None = None
        self.planes: dict[tuple[str, tuple[int, ...]], tuple[tuple[object, ...], Plane]] = {}
        self.core: int | None = None
        self._clicks: ClickSegmenter | None = None
        self.newest = 0
        """Highest number that a version of the model has; the next one to take over gets the next number."""

    def spare_cores(self, user_is_active: bool) -> None:
        """One torch thread while the user does something, all of them otherwise."""
        wanted = 1 if user_is_active else usable_cores()
        if torch.get_num_threads() != wanted:
            torch.set_num_threads(wanted)

    def take(self, model: Model) -> Loaded:
        """The model is the one in use from here on."""
        if self.model is None or self.model.device != model.device:
            self.core = None  # how small tiles must be is a matter of the device
        self.model = model
        self.planes.clear()
        if speeds := read_speeds(measured_on(model)):
            take_fastest(model, speeds)
        return Loaded(model.card, model.version, backend_of(model).line, tuple(device_names()))

    def find_fastest(self) -> Iterator[str]:
        """Measure in which way the model predicts fastest, if that never was; the line that says what runs where."""
        model = self._need_model()
        if model.net.ndim != 2 or read_speeds(measured_on(model)):
            return
        measuring = measure_speeds(model)
        while True:
            try:
                next(measuring)
            except StopIteration as end:
                write_speeds(measured_on(model), end.value)
                take_fastest(model, end.value)
                yield backend_of(model).line
                return
            yield backend_of(model).line

    def predict(self, request: Request) -> Iterator[Progress | Measured | Prediction]:
        """Predict the plane that a picture's view lies in."""
        model = self._need_model()
        if request.measures:
            yield from self.measure(request.picture, request.picture.view, request.expected, request.given)
        plane = self._plane(model, request)

        def look() -> Box:
            return request.picture.view or plane.box

        pixels = plane.box.shape[-1] * plane.box.shape[-2]
        yield from predict(
            model,
            plane,
            settings=request.settings,
            look=look,
            picture=request.picture.key,
            request=request.number,
            keep_outputs=pixels <= LARGEST_KEPT,
        )

    def look_closer(self, request: Request, is_wanted: Callable[[], bool]) -> Iterator[Prediction | None]:
        """Predict a small plane that was predicted once more, with all the care that `segment` takes."""
        model = self._need_model()
        yield from look_closer(
            model,
            self._plane(model, request),
            is_wanted=is_wanted,
            settings=request.settings,
            picture=request.picture.key,
            request=request.number,
        )

    def measure(
        self, picture: Picture, view: Box | None, expected: float | None, given: float | None
    ) -> Iterator[Progress | Measured]:
        """Measure how the model sees a picture; whoever pulls tells the picture. A size that it has stays."""
        size, known = given or picture.measured, picture.is_inverted is not None
        model, reading = self._need_model(), picture.reading
        found = yield from measure(model, reading, view, expected=expected, given=size, as_it_is=known)
        yield Measured(picture.key, picture.measured if size else found.diameter, found.is_inverted)

    def click(
        self, picture: Picture, lead: tuple[int, ...], prompts: Prompts, previous: tuple[Box, Mask] | None
    ) -> ObjectMask:
        """The object that prompts show in a plane of a picture."""
        model = self._need_model()
        if self._clicks is None or self._clicks.model is not model:
            self._clicks = ClickSegmenter(model)
        self._clicks.look_at(picture.reading, lead, picture.scale)
        found = self._clicks.answer(prompts, None if previous is None else ClickMask(*previous))
        box = Box((*lead, *found.box.start), (*(i + 1 for i in lead), *found.box.stop))
        return ObjectMask(picture.key, box, found.mask.reshape(box.shape), found.foreground)

    def _plane(self, model: Model, request: Request) -> Plane:
        """The plane of a request, with the outputs it has already; the last four are kept."""
        picture = request.picture
        lead = picture.view.start[: len(picture.source.shape) - model.net.ndim] if picture.view else ()
        recipe = (id(model), picture.channels, picture.is_inverted, picture.scale, self.core)
        known = self.planes.pop((picture.key, lead), None)
        if known is None or known[0] != recipe:
            core = self.core or backend_of(model).core
            if math.prod(picture.source.shape[-2:]) > LARGEST_KEPT:
                core = min(core, QUICK_TILE)
            plane = plane_of(model, picture.reading, picture.view, scale=picture.scale, core=core)
            known = (recipe, plane)
        self.planes[picture.key, lead] = known
        while len(self.planes) > 4:
            self.planes.pop(next(iter(self.planes)))
        return known[1]

    def halve_tiles(self) -> tuple[int, int]:
        """After the device ran out of memory: the size of tiles so far, and from now on (not below 64)."""
        model = self._need_model()
        before = self.core or backend_of(model).core
        self.core = max(SMALLEST_TILE, before // 2)
        self.planes.clear()
        if model.device.type == "cuda":
            torch.cuda.empty_cache()
        return before, self.core

    def learn(self, corrections: Sequence[Correction], control: Control) -> Iterator[TrainStep | WeightsChanged]:
        """Learn from the corrections until there is nothing new to learn."""
        model = self._need_model()
        for event in fine_tune(model, corrections, control=control):
            if isinstance(event, TrainStep) and event.kept:
                # the engine counts on from the version in use; after going back, that number is taken
                self.newest = model.version = max(self.newest + 1, model.version)
            yield event

    def weights(self) -> bytes:
        """The model in use as the content of a file."""
        return self._need_model().to_bytes()

    def _need_model(self) -> Model:
        """The model in use."""
        if self.model is None:
            raise ModelError("No model is loaded. Choose one under Model.")
        return self.model


def load_version(data: bytes, device: str, version: int, base: str) -> Model:
    """A version of a project's model, from the content of its file; it must not forget what `base` knew."""
    model = model_from_bytes(data, device=backend_for(device).device)
    model.version, model.rehearsal, model.origin = version, rehearsal_beside(base), _origin_of(model, base)
    return model


def _origin_of(version: Model, base: str) -> Model | None:
    """What a version of a model first was; None if that is gone, or `base` names another one by now."""
    try:
        origin = load_model(base, device=str(version.device))
    except ModelError:  # its versions are as good without it
        return None
    return origin if origin.sha256() == version.card.parent else None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the computer, had not enough memory."""
    lacks_memory = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    # what torch says of the computer's own memory is a RuntimeError like any other
    return lacks_memory or (isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error))
