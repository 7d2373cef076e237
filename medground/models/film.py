"""One image as a network takes it, and the way back to its pixels. Letter: S side of the square."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medground import images
from medground.boxes import Letterbox


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
    """The image of a file, letterboxed to `size`; raises MedgroundError where it cannot be read."""
    square, letterbox = images.letterbox(images.load(path), size)
    return Film(np.rint(square * 255).astype(np.uint8), letterbox)
