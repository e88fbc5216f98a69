"""Labels in PNGs of few bits: the numbers are those of the file, though Pillow stretches them for the eye."""

import struct
import zlib

import numpy as np
import pytest

from napari_unet.core.geometry import Box
from napari_unet.store.pictures import read_labels, read_picture


def part(name, content):
    """One chunk of a PNG."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def write_png(path, values, bits):
    """Write a gray PNG of 1, 2, 4 or 8 bits, for Pillow writes 1 and 8 alone."""
    height, width = values.shape
    each = np.unpackbits(values.astype(np.uint8)[..., np.newaxis], axis=-1)[..., 8 - bits :]
    rows = np.packbits(each.reshape(height, -1), axis=-1)  # (Y, bytes)
    lines = np.pad(rows, ((0, 0), (1, 0)))  # each begins with its filter: none
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    parts = part(b"IHDR", header) + part(b"IDAT", zlib.compress(lines.tobytes())) + part(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_labels_of_few_bits_keep_their_numbers(tmp_path, bits, name):
    """Object 3 of a PNG of 4 bits is object 3, whatever the file is called; it was 51."""
    numbers = np.arange(45).reshape(5, 9) % 2**bits
    write_png(tmp_path / name, numbers, bits)
    assert (read_labels(tmp_path / name) == numbers).all()


def test_a_picture_of_few_bits_stays_what_other_programs_see(tmp_path):
    """A picture is stretched as in napari: it is the same picture from a file and from a layer."""
    write_png(tmp_path / "a.png", np.array([[0, 1], [14, 15]]), 4)
    source = read_picture(tmp_path / "a.png")
    assert source.read(Box.whole(source.shape)).tolist() == [[[0, 17], [238, 255]]]
