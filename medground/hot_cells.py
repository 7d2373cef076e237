"""Boxes around the hot cells of a heat map, in shares of the map.

A cell is hot from a threshold on; NaN is never hot. Hot cells that share an edge are one component. Letters:
R x C cells.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medground.records import Box

Keep = Literal["peak", "largest", "all"]
KEEPS: tuple[Keep, ...] = ("peak", "largest", "all")


def boxes(heatmap: NDArray[Any], threshold: float, keep: Keep = "peak") -> list[tuple[Box, float]]:
    """Return the box of each component of an (R, C) map and the highest value inside it, highest first.

    peak: only the component with the highest value. largest: only the one with the most cells, of equally
    large ones that with the highest value. all: each of them. Equally high ones are in the order of their
    first cell, row by row. Empty if no cell is hot.
    """
    from scipy import ndimage

    parts, count = ndimage.label(heatmap >= threshold)
    if not count:
        return []
    numbers = np.arange(1, count + 1)
    highest = ndimage.maximum(heatmap, parts, numbers)
    order = np.argsort(-np.asarray(highest), kind="stable")
    if keep == "peak":
        order = order[:1]
    elif keep == "largest":
        order = order[[np.bincount(parts.ravel())[1:][order].argmax()]]
    found = ndimage.find_objects(parts)
    return [(_shares(found[n], heatmap.shape), float(highest[n])) for n in order]


def _shares(place: tuple[slice, slice], shape: tuple[int, ...]) -> Box:
    down, across = shape
    rows, columns = place
    x1, x2 = columns.start / across, columns.stop / across
    return x1, rows.start / down, x2, rows.stop / down
