"""What to tell the user when a piece of work failed."""

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
