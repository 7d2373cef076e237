"""Limits on what one file may unpack to, so that a small file cannot fill the memory.

| limit | applies to |
|---|---|
| `MAX_PIXELS` | one image, mask or COCO size; checked in the header before anything is decoded |
| `MAX_UNPACKED` | bytes of one gzip file, zip member, npz array or deflated DICOM file |
"""

import zlib
from collections.abc import Iterator
from typing import BinaryIO

from medground.errors import MedgroundError

# The largest detectors give 5,000 x 4,000; PIL warns from 89 million pixels on, which this stays under.
MAX_PIXELS = 80_000_000
MAX_UNPACKED = 1 << 30
CHUNK = 1 << 16
TOO_LARGE = f"more than {MAX_PIXELS // 1_000_000} million pixels; is this a chest X-ray?"
TOO_LONG = f"unpacks to more than {MAX_UNPACKED >> 20} MiB"


def check_size(place: object, width: int, height: int) -> None:
    """Raise MedgroundError for an image without pixels, or with more than `MAX_PIXELS`."""
    if width < 1 or height < 1:
        raise MedgroundError(f"{place}: an image without pixels")
    if width * height > MAX_PIXELS:
        raise MedgroundError(f"{place}: {TOO_LARGE}")


def check_unpacked(place: object, size: int) -> None:
    """Raise MedgroundError if `size` bytes are more than `MAX_UNPACKED`."""
    if size > MAX_UNPACKED:
        raise MedgroundError(f"{place}: {TOO_LONG}")


def check_deflated(place: object, stream: BinaryIO) -> None:
    """Raise MedgroundError if the raw deflated rest of a stream unpacks to more than `MAX_UNPACKED`.

    Nothing of it is kept: memory stays flat. Raises zlib.error for damaged data.
    """
    size = 0
    for part in _inflated(stream):
        size += len(part)
        check_unpacked(place, size)


def _inflated(stream: BinaryIO) -> Iterator[bytes]:
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    while packed := inflate.unconsumed_tail or stream.read(CHUNK):
        yield inflate.decompress(packed, CHUNK)
        if inflate.eof:
            return
