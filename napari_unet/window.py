"""All commands of `unet-live`: the headless ones, and those that open napari."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_unet.cli import app, run
from napari_unet.cli.program import make_folder
from napari_unet.core.errors import UNetLiveError

__all__ = ["app", "run"]


def _need_display() -> None:
    """Say in one sentence that there is no screen, before Qt aborts the process."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise UNetLiveError("There is no display. Run it on a virtual one: xvfb-run -a unet-live demo --tour tour")


@app.callback(invoke_without_command=True)
def start(context: typer.Context) -> None:
    """U-Net Live: a U-Net that segments microscopy pictures and learns from corrected masks."""
    if context.invoked_subcommand is None:
        open_napari([], None)


@app.command("open")
def open_napari(
    pictures: Annotated[list[Path] | None, typer.Argument(help="Pictures to open.")] = None,
    project: Annotated[Path | None, typer.Option(help="A project folder to open, or to begin.")] = None,
) -> None:
    """Open napari with the pictures and the dock."""
    _need_display()
    missing = [str(path) for path in pictures or [] if not path.exists()]
    if missing:
        raise UNetLiveError(f"There is no picture '{missing[0]}'.")
    import napari

    viewer = napari.Viewer()
    for path in pictures or []:
        try:
            viewer.open(str(path))
        except Exception as error:  # readers are of any plugin, and raise what they like
            reason = " ".join(f"{error}".split())[:200] or type(error).__name__
            viewer.close()
            raise UNetLiveError(f"'{path}' cannot be opened ({reason}). Is it whole, and a picture?") from error
    _open_dock(viewer, project)
    napari.run()


@app.command()
def demo(
    tour: Annotated[Path | None, typer.Option(help="Play the loop without a person; write what was seen here.")] = None,
) -> None:
    """A sample picture with the dock; with --tour the whole loop plays by itself."""
    _need_display()
    if tour is not None:
        make_folder(tour)
        from napari_unet.widgets.tour import play, print_facts

        typer.echo(print_facts(play(tour)))
        return
    import napari

    from napari_unet.widgets.samples import open_sample

    viewer = napari.Viewer()
    open_sample(viewer, "brightfield")
    _open_dock(viewer, None)
    napari.run()


def _open_dock(viewer: Any, project: Path | None) -> None:
    """The dock in a viewer, with a project if one is named, and the newest picture in hand."""
    from napari_unet.widgets.desk import desk_of

    desk = desk_of(viewer)
    if project is not None:
        desk.session.open_project(project)
    viewer.window.add_plugin_dock_widget("napari-unet-live", "U-Net Live")
    if desk.images():
        desk.take(desk.images()[-1])
