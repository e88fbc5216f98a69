"""Predict: which picture, which model, where it runs, and the thresholds that act at once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari.layers import Image
from napari.utils import progress
from qtpy.QtCore import QSize, Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QProgressBar,
    QStackedWidget,
    QWidget,
)
from superqt import QLabeledDoubleSlider

from napari_unet.core.card import SHIPPED
from napari_unet.core.events import Progress
from napari_unet.core.sizes import median_diameter
from napari_unet.widgets.desk import desk_of
from napari_unet.widgets.forms import accent_bar, button, column, duration, line, named, primary, row, small_button
from napari_unet.widgets.guide import bring_forward
from napari_unet.widgets.icons import give_icon
from napari_unet.widgets.viewer_session import close_with_window, follow, listen, once

if TYPE_CHECKING:
    import napari

    from napari_unet.session.session import SessionState

_OPEN_MODEL = "Open a model file..."
_REBUILD_MS = 50
_DEVICES = {"auto": "Automatic", "cpu": "CPU", "cuda": "GPU (CUDA)", "mps": "GPU (Apple)"}


class SizeBox(QDoubleSpinBox):
    """The diameter of the objects in pixels; at 0 it is measured, and what was measured is shown.

    Attributes
    ----------
    usual : float
        Where it begins when it is stepped up from there: nobody means objects of 1 pixel.
    """

    def __init__(self) -> None:
        super().__init__()
        self.usual = 24.0
        self.setRange(0, 2000)
        self.setDecimals(0)
        self.setSuffix(" px")
        self.setKeyboardTracking(False)
        self.show_measured(None)

    def show_measured(self, found: float | None) -> None:
        """Show what was measured; None: nothing was yet."""
        self.usual = found or self.usual
        self.setSpecialValueText(f"auto: {found:.0f} px" if found else "auto")

    def stepBy(self, steps: int) -> None:  # noqa: N802  Qt's name
        """One step up or down."""
        if self.value() == 0 and steps > 0:
            self.setValue(round(self.usual))
        else:
            super().stepBy(steps)


class PredictPanel(QWidget):
    """Picks the picture, the model and the device; predicts; sets how objects are built."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.desk = desk_of(napari_viewer)
        self.session = self.desk.session
        self._activity: progress | None = None
        self._make_controls()
        self._lay_out()
        self._rebuild = once(self, _REBUILD_MS, self._send_settings)
        self._connect()
        close_with_window(self, napari_viewer)
        self._fill_pictures()
        self._show_state(self.session.state)
        self.desk.take_newest()

    # --- the controls ---

    def _make_controls(self) -> None:
        self.image = QComboBox()
        named(self.image, "image", "The picture to segment: one of the image layers")
        self.channels = QComboBox()
        named(self.channels, "channels", "What the model sees of a picture with several channels")
        self.model = QComboBox()
        self.model.setPlaceholderText("No model yet")  # while the first one is loaded, or if it cannot be
        named(self.model, "model", "The model that segments, or a model file of your own")
        self.device = QComboBox()
        named(self.device, "device", "Where the model runs; 'Automatic' takes the fastest that works")
        for picker in (self.image, self.channels, self.model, self.device):
            picker.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            picker.setMinimumContentsLength(8)
        self.device_line = line("device_line", "What runs where")
        self.predict = button("Predict", "predict", "Segment the picture, what is in view first")
        primary(self.predict)
        self.predict.setIconSize(QSize(20, 20))
        self.bar = QProgressBar()
        named(self.bar, "progress", "How far the prediction is")
        accent_bar(self.bar)
        self.bar.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.cancel = button("Cancel", "cancel", "Stop predicting; masks that are there stay")
        give_icon(self.cancel, "cancel")
        self.fresh = QCheckBox("Keep the view fresh")
        named(self.fresh, "fresh", "Predict by itself what you move to, and again when the model has learnt")
        self.fresh.setChecked(self.desk.follows)
        self.classes = line("classes", "The classes that the model tells apart: the labels 0, 1, 2 and so on")
        self.diameter = SizeBox()
        named(
            self.diameter,
            "diameter",
            "Usual diameter of the objects: the picture is scaled to what the model knows. Auto: measured by it",
        )
        self.inverted = QCheckBox("Inverted")
        named(
            self.inverted,
            "inverted",
            "The model sees the picture with dark and bright exchanged: where it knows it better so, or you say it",
        )
        self.measure = small_button(
            "measure", "measure", "Measure it: the median diameter of your objects, or of all in view"
        )
        self.foreground = self._slider(
            "foreground", "Higher: smaller and fewer objects; 0.5: as the model has learnt it. Acts at once"
        )
        self.separation = self._slider(
            "separation", "Higher: touching objects are parted more; 0.5: as the model has learnt it. Acts at once"
        )

    @staticmethod
    def _slider(name: str, tip: str) -> QLabeledDoubleSlider:
        slider = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        named(slider, name, tip)
        slider.setRange(0.0, 1.0)
        slider.setSingleStep(0.01)  # type: ignore[arg-type]  # superqt types it as its whole-number slider
        slider.setDecimals(2)
        return slider

    def _lay_out(self) -> None:
        self.work = QStackedWidget()
        self.work.addWidget(self.predict)
        self.work.addWidget(row(self.bar, self.cancel, stretch=0))
        self.work.setSizePolicy(self.predict.sizePolicy())
        self.image_row = row(self.image, name="Picture", stretch=0)
        self.channels_row = row(self.channels, name="Channels", stretch=0)
        self.device_row = row(self.device, name="Device", stretch=0)
        layout = column(self)
        for part in (
            self.image_row,
            self.channels_row,
            row(self.model, name="Model", stretch=0),
            self.device_row,
            self.device_line,
            self.work,
            row(self.fresh, self.inverted, stretch=0),
            row(self.classes, name="Classes", stretch=0),
            row(self.diameter, self.measure, name="Object size", stretch=0),
            row(self.foreground, name="Foreground", stretch=0),
            row(self.separation, name="Separation", stretch=0),
        ):
            layout.addWidget(part)
        layout.addStretch(1)

    def _connect(self) -> None:
        self.image.activated.connect(self._take_picture)
        self.channels.activated.connect(self._take_channels)
        self.model.activated.connect(self._take_model)
        self.device.activated.connect(lambda: self.session.use_device(str(self.device.currentData())))
        self.predict.clicked.connect(self.desk.predict)
        self.cancel.clicked.connect(lambda: self.session.cancel())
        self.fresh.toggled.connect(self._keep_fresh)
        self.measure.clicked.connect(self._measure)
        self.diameter.valueChanged.connect(lambda value: self.session.use_diameter(value or None))
        self.inverted.clicked.connect(self._invert)
        self.foreground.valueChanged.connect(lambda _: self._rebuild.start())
        self.separation.valueChanged.connect(lambda _: self._rebuild.start())
        follow(self.desk.picture_changed, self, self._fill_pictures)
        follow(self.desk.pictures_changed, self, self._fill_pictures)
        listen(self.session.state_changed, self, self._show_state)
        listen(self.session.progressed, self, self._show_progress)

    # --- pictures, channels, models ---

    def _fill_pictures(self) -> None:
        """The image layers to choose from."""
        self.image.clear()
        for image in self.desk.images():
            self.image.addItem(image.name, image)
        place = self.image.findData(self.desk.image) if self.desk.image is not None else -1
        self.image.setCurrentIndex(place)
        self.image_row.setVisible(self.image.count() > 1)
        self.predict.setEnabled(self.desk.picture is not None)
        self._show_sight()
        self._fill_channels()

    def _show_sight(self) -> None:
        picture, given = self.desk.picture, round(self.session.state.given or 0)
        if given != self.diameter.value():  # it was given from Python
            self.diameter.blockSignals(True)
            self.diameter.setValue(given)
            self.diameter.blockSignals(False)
        self.diameter.show_measured(picture.measured if picture is not None else None)
        self.inverted.setChecked(picture is not None and bool(picture.is_inverted))
        self.inverted.setEnabled(picture is not None)

    def _fill_channels(self) -> None:
        picture = self.desk.picture
        count = picture.source.channels if picture is not None else 1
        self.channels_row.setVisible(count > 1)
        if self.channels.property("of") != (picture.key if picture is not None else None):
            self.channels.setProperty("of", picture.key if picture is not None else None)
            self.channels.clear()
            self.channels.addItem("All", None)
            colors = ("Red", "Green", "Blue")
            is_color = picture is not None and picture.source.is_color
            for number in range(count):
                self.channels.addItem(colors[number] if is_color and number < 3 else f"Channel {number + 1}", (number,))
        chosen = picture.channels if picture is not None else None  # a project that was opened may say it
        shown = [self.channels.itemData(i) for i in range(min(count + 1, self.channels.count()))]
        if chosen is not None and chosen not in shown:  # several, chosen from Python
            self.channels.removeItem(count + 1)
            self.channels.addItem(" + ".join(self.channels.itemText(1 + number) for number in chosen), chosen)
            shown.append(chosen)
        self.channels.setCurrentIndex(shown.index(chosen) if chosen in shown else 0)

    def _take_picture(self) -> None:
        image = self.image.currentData()
        if isinstance(image, Image) and not bring_forward(self.desk, image):
            self._fill_pictures()

    def _take_channels(self) -> None:
        if self.desk.picture is not None:
            self.session.use_channels(self.desk.picture.key, self.channels.currentData())

    def _invert(self, on: bool) -> None:
        if self.desk.picture is not None:
            self.session.invert(self.desk.picture.key, on)

    def _fill_models(self, state: SessionState) -> None:
        current, source = state.model, state.model_source or state.model
        known = {self.model.itemData(i) for i in range(self.model.count())}
        if not known >= set(SHIPPED):
            self.model.clear()
            for name, label in SHIPPED.items():
                self.model.addItem(label, name)
            self.model.addItem(_OPEN_MODEL, None)
        # the state tells a model's own name, the list may show it with an explanation: "Generalist (shipped)"
        place = self.model.findData(source)
        if place < 0 and not state.model_source:
            place = self.model.findText(current, Qt.MatchFlag.MatchStartsWith)
        if current and place < 0:
            self.model.insertItem(0, current, source)  # a file of the user's
            place = 0
        self.model.setCurrentIndex(place if current else -1)

    def _take_model(self) -> None:
        name = self.model.currentData()
        if name is None:
            name, _ = QFileDialog.getOpenFileName(
                self, "Open a model", "", "Models (*.safetensors *.pth *.pt *.zip);;All files (*)"
            )
        if name:
            self.session.use_model(name)
        else:
            self._fill_models(self.session.state)

    def _fill_devices(self) -> None:
        names = ["auto", *(name for name in self.session.state.devices if name != "auto")]
        if [self.device.itemData(i) for i in range(self.device.count())] == names:
            return
        self.device_row.setVisible(len(names) > 2)  # what is there beside the processor to choose from
        self.device.clear()
        for name in names:
            self.device.addItem(_DEVICES.get(name, name.upper()), name)

    # --- work ---

    def _keep_fresh(self, on: bool) -> None:
        self.desk.keep_fresh(on)

    def _measure(self) -> None:
        """The median diameter of the user's objects, or else of all objects in view."""
        masks = self.desk.masks
        if masks is None:
            return
        view = self.desk.view().slices
        labels = masks.layer.data[view]
        taught = labels * (masks.picture.taught[view] != 0)
        found = median_diameter(taught) or median_diameter(labels)
        if found is None:
            self.device_line.setText("There are no objects in view to measure: draw one, or predict first.")
        else:
            self.diameter.setValue(round(found))

    def _send_settings(self) -> None:
        settings = replace(
            self.session.settings, foreground=self.foreground.value(), separation=self.separation.value()
        )
        if settings != self.session.settings:
            self.session.rebuild(settings)

    # --- what the session tells ---

    def _show_state(self, state: SessionState) -> None:
        self._fill_models(state)
        self._fill_devices()
        self._fill_channels()
        self.device_line.setText(state.device)
        objects = state.kind == "objects"
        self.classes.setText(", ".join(state.classes))
        shown = {self.classes: not objects, self.diameter: objects, self.foreground: objects, self.separation: objects}
        for control, is_shown in shown.items():
            if (parent := control.parentWidget()) is not None:
                parent.setVisible(is_shown)
        for slider, value in (
            (self.foreground, self.session.settings.foreground),
            (self.separation, self.session.settings.separation),
        ):
            if not self._rebuild.isActive() and not slider.isSliderDown():
                slider.blockSignals(True)
                slider.setValue(value)
                slider.blockSignals(False)
        self._show_sight()
        self.work.setCurrentIndex(1 if state.predicting else 0)
        if not state.predicting:
            self._end_activity()

    def _show_progress(self, event: Progress) -> None:
        if event.job != "predict":
            return
        done = event.done >= event.total
        self.work.setCurrentIndex(0 if done else 1)
        percent = 100 * event.done // max(1, event.total)
        self.bar.setRange(0, max(1, event.total))
        self.bar.setValue(event.done)
        left = duration(event.seconds_left)
        self.bar.setFormat(f"{event.text} {percent} %" + (f" · {left}" if left else ""))
        if done:
            self._end_activity()
            return
        if self._activity is None:
            self._activity = progress(total=event.total, desc=event.text)
        self._activity.total = event.total
        self._activity.n = event.done
        self._activity.refresh()

    def _end_activity(self) -> None:
        """Take our line out of napari's activity dock."""
        activity, self._activity = self._activity, None
        if activity is not None:
            activity.close()
