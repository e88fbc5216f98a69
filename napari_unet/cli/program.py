"""What all commands share: the program, its options, pairs of files, and what is said of failures."""

from __future__ import annotations

import errno
import itertools
import tempfile
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from tqdm import tqdm

from napari_unet.core.errors import STOPPED, LabelsError, UNetLiveError
from napari_unet.core.speeds import Speed
from napari_unet.nets.packages import Stamp, stamp_of
from napari_unet.store.pictures import find_pictures, unread_in
from napari_unet.store.speeds import read_speeds, write_speeds

if TYPE_CHECKING:
    from napari_unet.nets.model import Model

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
app = typer.Typer(
    help="U-Net Live: a U-Net that segments microscopy pictures and learns from corrected masks.",
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
)
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
ModelOption = Annotated[
    str, typer.Option("--model", help="A shipped name, a .safetensors, a .pth, or a package of bioimage.io.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def name_of(path: Path) -> str:
    """The name that a picture and its labels share: the file's, or the OME-Zarr folder's, without its endings."""
    return path.stem.removesuffix(".ome")


def pairs_of(
    images: Path, labels: Path, leave_out: Sequence[str] = (), only: Sequence[str] = ("*",)
) -> list[tuple[Path, Path]]:
    """Pictures and labels of the same name, ending apart: those like one of `only` and like none of `leave_out`."""

    def is_wanted(name: str) -> bool:
        return any(fnmatchcase(name, p) for p in only) and not any(fnmatchcase(name, p) for p in leave_out)

    pictures, truths = _named(images), _named(labels)
    pairs = [(path, truths[name]) for name, path in pictures.items() if name in truths and is_wanted(name)]
    if not pairs and not pictures.keys().isdisjoint(truths):
        reason = "--leave-out names all of them" if leave_out else "--only names none of them"
        raise LabelsError(f"No picture in '{images}' is left: {reason}.")
    if not pairs:
        raise LabelsError(
            f"No picture in '{images}' has labels of the same name in '{labels}'. Name them alike, endings apart."
        )
    for folder, mine, other in ((images, pictures, truths), (labels, truths, pictures)):
        alone = [path.name for name, path in mine.items() if name not in other and is_wanted(name)]
        if alone:
            typer.echo(f"Left out, for nothing has their name: {len(alone)} in '{folder}', like {alone[0]}.", err=True)
    tell_unread(pairs)
    return pairs


def tell_unread(pairs: Iterable[tuple[Path, Path]]) -> None:
    """Say of which files more is left out than read."""
    for sentence in filter(None, map(unread_in, itertools.chain(*pairs))):
        typer.echo(sentence, err=True)


def _named(folder: Path) -> dict[str, Path]:
    """The pictures of a folder by their names."""
    known: dict[str, Path] = {}
    for path in find_pictures([folder]):
        other = known.setdefault(name_of(path), path)
        if other != path:
            raise LabelsError(f"'{other}' and '{path}' have the same name, endings apart. Rename one, or move it away.")
    return known


def make_folder(folder: Path) -> None:
    """A folder to write into; one where nothing can be written is refused before anything is computed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise UNetLiveError(f"Nothing can be written into '{folder}' ({reason}). Name another place.") from error


def check_output(path: Path, option: str) -> None:
    """Refuse to put a file in the place of a folder or a device."""
    if path.is_dir() or (path.exists() and not path.is_file()):
        what = "a folder" if path.is_dir() else "no plain file"
        raise UNetLiveError(f"'{path}' is {what}. Name the file to write with {option}.")


def at_its_fastest(model: Model) -> list[Speed]:
    """Let a model predict in the way that is fastest here, measured once for each computer; what was measured."""
    from napari_unet.engine.choice import measure_speeds, measured_on, take_fastest  # torch: only when it is needed

    if model.net.ndim != 2:
        return []
    speeds = read_speeds(measured_on(model))
    if not speeds:
        measuring = measure_speeds(model)
        with tqdm(desc="Finding the fastest way, once", unit="picture", disable=None, leave=False) as bar:
            while True:
                try:
                    next(measuring)
                except StopIteration as end:
                    speeds = end.value
                    break
                bar.update()
        write_speeds(measured_on(model), speeds)
    take_fastest(model, speeds)
    return speeds


Way = tuple[str, str]
"""In which way a model predicts: what runs it, and its number type, as in `Speed`."""


def loaded_model(name: str, device: str) -> Model:
    """A model, loaded once in a process, and again when its file is another one: a worker lives for many commands."""
    return _loaded(name, device, stamp_of(Path(name)))


@lru_cache(maxsize=1)
def _loaded(name: str, device: str, stamp: Stamp) -> Model:
    """The model of this stamp."""
    from napari_unet.nets.model import load_model

    return load_model(name, device=device)


def model_in_way(name: str, device: str, way: Way) -> Model:
    """The same, predicting in the way that was found to be fastest by whoever asks for it."""
    from napari_unet.engine.choice import take_way

    model = loaded_model(name, device)
    take_way(model, *way)
    return model


def way_of(model: Model) -> Way:
    """In which way a model predicts here."""
    from napari_unet.engine.device import backend_of

    backend = backend_of(model)
    return backend.form, backend.number_type


def run(command: typer.Typer) -> None:
    """Run a command line; every failure is one sentence, exit code 2 for a user's mistake, 1 else."""
    try:
        code = command(standalone_mode=False) or 0
    except Exception as error:
        sentence, code = sentence_and_code(error)
        typer.echo(sentence, err=True)
        raise SystemExit(code) from error
    if code == STOPPED:
        typer.echo("Stopped.", err=True)
    raise SystemExit(code)


def sentence_and_code(error: Exception) -> tuple[str, int]:
    """What to say of a failure, and with which exit code."""
    if isinstance(error, UNetLiveError):
        return str(error), 1 if _has_no_room(error) else 2
    usage = getattr(error, "format_message", None)  # a mistake on the command line, found by click
    if usage is not None:
        return f"{' '.join(usage().split()).rstrip('.')}; add --help to see how the command is used.", 2
    if isinstance(error, OSError) and error.strerror:
        about = f" '{error.filename}'" if error.filename else ""
        return f"The system refused{about}: {error.strerror}. Check that place, or name another one.", 1
    said = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")
    return f"Something went wrong inside U-Net Live ({said}); report it with what 'unet-live info' says.", 1


def _has_no_room(error: BaseException | None) -> bool:
    """Whether a failure comes of a full disk, a used-up quota or a limit on files: no mistake on the command line."""
    while error is not None and not (isinstance(error, OSError) and error.errno in NO_ROOM):
        error = error.__cause__
    return error is not None
