"""Arrays to the bytes of an `.npz` file and back, without pickle and with limits checked before anything is unpacked.

`numpy.load` opens what we write. We do not use it to read, because it allocates what a file declares
before it looks whether the file can be true.
"""

from __future__ import annotations

import io
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet.core.errors import ProjectError

Arrays = dict[str, npt.NDArray[Any]]

END, END_SIZE, LOCATOR_64 = b"PK\x05\x06", 22, b"PK\x06\x07"
DIRECTORY_LIMIT = 4096  # bytes; ours has about 60 a member
MAX_AXES = 8
DTYPES = ("<i4", "|b1", "|u1")
TEXT_LIMIT = 16384  # characters of an array of text
# everything that zipfile, zlib and numpy's header reader raise on bytes that are not theirs (found by fuzzing)
UNREADABLE = (
    ValueError,
    TypeError,
    EOFError,
    KeyError,
    IndexError,
    OverflowError,
    NotImplementedError,
    RuntimeError,  # an encrypted member; also RecursionError
    SyntaxError,
    MemoryError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def pack(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """The bytes of a compressed `.npz` file; the same arrays always give the same bytes.

    Parameters
    ----------
    arrays : dict of str to array
        int32, bool, uint8, or one text (shape ()).
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for name, array in arrays.items():
            # a fixed date: nothing about the user's clock, and equal content is equal bytes
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_DEFLATED
            little = np.asarray(array, order="C").astype(array.dtype.newbyteorder("<"), copy=False)
            with io.BytesIO() as content:
                np.lib.format.write_array(content, little, version=(1, 0), allow_pickle=False)
                with content.getbuffer() as view:  # let go at once: a profiler may hold on to this frame
                    file.writestr(member, view, compresslevel=1)
    return buffer.getvalue()


def unpack(data: bytes, allowed: Collection[str], limit: int, name: str) -> Arrays:
    """The arrays of a file that `pack` wrote.

    Parameters
    ----------
    data : bytes
    allowed : collection of str
        Arrays that may be in it.
    limit : int
        Bytes that all of it may have when unpacked; checked before unpacking.
    name : str
        What to call the file in an error.

    Raises
    ------
    ProjectError
        If it is damaged, or nothing that we wrote.
    """
    try:
        _check_directory(data)
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            members = file.infolist()
            _check_members(members, allowed, limit)
            return {member.filename.removesuffix(".npy"): _read_member(file, member) for member in members}
    except UNREADABLE as error:
        raise ProjectError(f"'{name}' is damaged or no file of ours ({_first_line(error)}).") from error


def whole_numbers(labels: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    """Labels as int32, if none of them changes by that.

    Raises
    ------
    ProjectError
        If they are no whole numbers, or too large.
    """
    values = np.asarray(labels)
    if values.dtype == np.int32:
        return values
    whole = values.astype(np.int32) if values.dtype.kind in "iub" else None
    if whole is None or not np.array_equal(whole, values):
        raise ProjectError(f"Labels of type {values.dtype} do not fit into int32. Renumber them before saving.")
    return whole


def _first_line(error: BaseException) -> str:
    """What an error says, short enough for a sentence."""
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def _check_directory(data: bytes) -> None:
    """Refuse a table of contents that zipfile would need long or much memory to read."""
    end = data[-END_SIZE:]
    if len(end) < END_SIZE or not end.startswith(END):
        raise ValueError("its end is missing")
    if data[-END_SIZE - 20 :].startswith(LOCATOR_64):
        raise ValueError("it is a large archive")
    size = struct.unpack("<L", end[12:16])[0]
    if size > DIRECTORY_LIMIT:
        raise ValueError("its table of contents is too long")


def _check_members(members: list[zipfile.ZipInfo], allowed: Collection[str], limit: int) -> None:
    names = [member.filename for member in members]
    if len(set(names)) != len(names) or not set(names) <= {f"{name}.npy" for name in allowed}:
        raise ValueError("it holds something else")
    if any(member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for member in members):
        raise ValueError("it is compressed in an unknown way")
    size = sum(member.file_size for member in members)
    if size > limit:
        raise ValueError(f"it declares {size} bytes; {limit} are allowed")


def _read_member(file: zipfile.ZipFile, member: zipfile.ZipInfo) -> npt.NDArray[Any]:
    with file.open(member) as stream:
        # read(n) unpacks at most n bytes, read() as many as the compressed data can be made to hold
        content = stream.read(member.file_size)
        if len(content) != member.file_size or stream.read(1):
            raise ValueError("its size is not what it declares")
    return _read_array(content)


def _read_array(content: bytes) -> npt.NDArray[Any]:
    """One array; its declared shape must be exactly what is there, before anything is allocated for it."""
    stream = io.BytesIO(content)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("an array has an unknown version")
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream, max_header_size=512)
    is_text = dtype.kind == "U" and shape == () and dtype.itemsize <= 4 * TEXT_LIMIT
    if fortran_order or not (is_text or dtype.str in DTYPES):
        raise ValueError(f"an array has the type {dtype}")
    if len(shape) > MAX_AXES or any(type(n) is not int or n < 0 for n in shape):
        raise ValueError("an array has an impossible shape")
    values = memoryview(content)[stream.tell() :]
    if math.prod(shape) * dtype.itemsize != len(values):
        raise ValueError("an array is not as large as it declares")
    if not len(values):
        return np.zeros(shape, dtype)
    if dtype.kind == "b" and np.frombuffer(values, np.uint8).max() > 1:
        raise ValueError("a mask holds more than yes and no")
    return np.frombuffer(values, dtype).reshape(shape).astype(dtype.newbyteorder("="))
