"""What to tell the user when a piece of work failed, or is not done."""

from __future__ import annotations

import logging
from collections.abc import Callable

from napari_unet.core.errors import UNetLiveError

_log = logging.getLogger(__name__)


def sentence_of(error: BaseException) -> str:
    """What to tell the user about an error."""
    if isinstance(error, UNetLiveError):
        return str(error)
    return f"Something went wrong inside U-Net Live ({type(error).__name__}: {error}). Your corrections are kept."


def reason_of(job: str, error: Exception, find_memory: Callable[[], str]) -> str:
    """Why a job failed, as a sentence.

    Parameters
    ----------
    job : str
    error : Exception
    find_memory : callable
        Begins the job again with less memory, where that was short, and says so; '' if it cannot.
    """
    from napari_unet.session.jobs import is_out_of_memory

    if not is_out_of_memory(error):
        if not isinstance(error, UNetLiveError):  # a mistake of ours: all that helps to find it
            _log.error("The job '%s' failed", job, exc_info=error)
        return sentence_of(error)
    return find_memory() or "There is not enough memory for this. Close other programs, or choose another device."


def not_learnt(count: int, kind: str) -> str:
    """That a model of a kind came, and does not learn from `count` corrections of the other one."""
    does, other = ("tells classes apart", "objects") if kind == "classes" else ("finds objects", "classes")
    made = "the correction" if count == 1 else f"the {count} corrections"
    are = "It is kept, and comes" if count == 1 else "They are kept, and come"
    return (
        f"This model {does}: it does not learn from {made} made with a model of {other}. {are} back with such a model."
    )
