"""One image as a network takes it, and the way back to its pixels. Letter: S side of the square."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medground import images
from medground.boxes import Letterbox

SPREAD = (1, 99)  # percent
FORMAT = 1  # of squares that are kept: another number wherever `read` gives another square


@dataclass(frozen=True, slots=True)
class Film:
    """A letterboxed grey image: (S, S) uint8, so that many fit in memory."""

    square: NDArray[np.uint8]
    letterbox: Letterbox

    def picture(self) -> Tensor:
        """(2, S, S): the film in [0, 1], and 1 where there is film, 0 where the letterbox pads."""
        inside = torch.zeros(self.square.shape)
        (width, height), (left, top) = self.letterbox.inner, self.letterbox.offset
        inside[top : top + height, left : left + width] = 1
        return torch.stack([torch.from_numpy(self.square).float() / 255, inside])


def read(path: Path, size: int) -> Film:
    """The image of a file, windowed and letterboxed to `size`; raises MedgroundError if it cannot be read."""
    return of(images.load(path), size)


def of(image: NDArray[np.float32], size: int) -> Film:
    """A (H, W) image in [0, 1], windowed and letterboxed to `size`."""
    square, letterbox = images.letterbox(windowed(image), size)
    return Film(np.rint(square * 255).astype(np.uint8), letterbox)


def windowed(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """The image with its first and last percent of grey values spread to 0 and 1; an even one becomes 0.

    How bright a film was exposed or exported says nothing about place, and every machine does it otherwise.
    """
    few = image[:: max(1, image.shape[0] // 256), :: max(1, image.shape[1] // 256)]  # as good, and fast
    low, high = np.percentile(few, SPREAD)
    return np.clip((image - low) / max(float(high - low), 1e-6), 0, 1).astype(np.float32)
