"""Masks as run lengths: COCO's, packed or not, and those of the SIIM challenge.

All go column by column, and the first run is outside the mask. Letters: H, W of the mask.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medground.limits import MAX_PIXELS

Mask = NDArray[np.bool_]
LONGEST = 35  # bits of a packed run length


def mask_of(size: Sequence[int], counts: str | Sequence[int]) -> Mask:
    """Return the (H, W) mask of COCO's run lengths; `size` is (H, W).

    Raises ValueError for a size that is none or above `MAX_PIXELS`, and for runs that do not fill it.
    """
    height, width = size
    whole = isinstance(height, int) and isinstance(width, int)
    if not whole or min(height, width) < 1 or height * width > MAX_PIXELS:
        raise ValueError("not a size, or too large")
    lengths = unpacked(counts) if isinstance(counts, str) else counts
    # Python's integers: a sum in 64 bits may wrap to the right number
    if any(not isinstance(each, int) or each < 0 for each in lengths) or sum(lengths) != height * width:
        raise ValueError("run lengths that do not fill the image")
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(width, height).T


def unpacked(text: str) -> list[int]:
    """Return COCO's packed run lengths; raise ValueError for text that is none.

    Each is the difference to the last but one, five bits per character from "0" on; the sixth bit marks a
    continuation, the highest of the last five is the sign.
    """
    lengths: list[int] = []
    value = shift = 0
    for letter in text.encode("ascii"):
        bits = letter - 48
        value |= (bits & 31) << shift
        shift += 5
        if not 0 <= bits < 64 or shift > LONGEST:
            raise ValueError("not a packed run length")
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
        value = shift = 0
    return lengths


def packed(mask: Mask) -> str:
    """Return COCO's packed run lengths of a (H, W) mask; `unpacked` inverts it."""
    flat = np.asarray(mask, bool).T.reshape(-1)
    edges = np.flatnonzero(np.diff(flat, prepend=False)).tolist()
    lengths = np.diff([0, *edges, flat.size]).tolist()
    text = bytearray()
    for place, length in enumerate(lengths):
        value = length - (lengths[place - 2] if place > 2 else 0)
        while True:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text.append(bits + 32 * more + 48)
            if not more:
                break
    return text.decode("ascii")


def of_gaps(text: str, height: int, width: int) -> Mask:
    """Return the (H, W) mask of SIIM's "gap length ..."; a gap counts from the end of the last run.

    Raises ValueError for an odd count of numbers, a negative one, and runs beyond the image.
    """
    numbers = [int(each) for each in text.split()]
    total = sum(numbers)
    if len(numbers) % 2 or min(numbers, default=0) < 0 or total > height * width:
        raise ValueError("not pairs of a gap and a length inside the image")
    return mask_of((height, width), [*numbers, height * width - total])


def gaps(mask: Mask) -> str:
    """Return SIIM's "gap length ..." of a mask; `of_gaps` inverts it."""
    flat = np.asarray(mask, bool).T.reshape(-1)
    edges = np.flatnonzero(np.diff(flat, prepend=False, append=False)).tolist()
    return " ".join(map(str, np.diff([0, *edges]).tolist()))


def pieces(mask: Mask) -> list[tuple[float, float, float, float]]:
    """Return the box of each connected piece of a mask, neighbors at corners included, from left to right."""
    from scipy import ndimage

    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    found = [
        (float(x.start), float(y.start), float(x.stop), float(y.stop))
        for y, x in ndimage.find_objects(labels)
    ]
    return sorted(found)
