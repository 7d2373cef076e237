"""One image as a network takes it, and the way back to its pixels. Letter: S side of the square."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medground import images
from medground.boxes import Letterbox
from medground.errors import MedgroundError

SPREAD = (1, 99)  # percent
FORMAT = 1  # of squares that are kept: another number wherever `read` gives another square


@dataclass(frozen=True, slots=True)
class LetterboxedImage:
    """A letterboxed grey image: (S, S) uint8, so that many fit in memory."""

    square: NDArray[np.uint8]
    letterbox: Letterbox

    def picture(self) -> Tensor:
        """(2, S, S): the film in [0, 1], and 1 where there is film, 0 where the letterbox pads."""
        inside = torch.zeros(self.square.shape)
        (width, height), (left, top) = self.letterbox.inner, self.letterbox.offset
        inside[top : top + height, left : left + width] = 1
        return torch.stack([torch.from_numpy(self.square).float() / 255, inside])

    def sized(
        self, width: int | None, height: int | None, path: Path | str, whose: str
    ) -> "LetterboxedImage":
        """The film with boxes in pixels of the size that a record states; itself where it states none.

        A file may be a scaled copy of the image that boxes were drawn on. Raises MedgroundError where it is
        another picture; `whose` record that is, and the file's path, are for the message.
        """
        own = (self.letterbox.width, self.letterbox.height)
        if not (width and height) or own == (width, height):
            return self
        if not is_scaled(own, (width, height)):
            raise MedgroundError(
                f"{path}: is {own[0]} x {own[1]} pixels, {whose} says {width} x {height}, which is no scaled "
                "copy; give --images that the boxes were drawn on"
            )
        return replace(self, letterbox=replace(self.letterbox, width=width, height=height, copy=own))


def is_scaled(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether (width, height) of both can be those of one picture, either rounded by up to a pixel."""
    apart = abs(one[0] * other[1] - one[1] * other[0])
    return min(*one, *other) > 0 and apart <= max(sum(one), sum(other))


def read(path: Path, size: int) -> LetterboxedImage:
    """The image of a file, windowed and letterboxed to `size`; raises MedgroundError if it cannot be read."""
    return of(images.load(path), size)


def of(image: NDArray[np.float32], size: int) -> LetterboxedImage:
    """A (H, W) image in [0, 1], windowed and letterboxed to `size`."""
    square, letterbox = images.letterbox(windowed(image), size)
    return LetterboxedImage(np.rint(square * 255).astype(np.uint8), letterbox)


def windowed(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """The image with its first and last percent of grey values spread to 0 and 1; an even one becomes 0.

    How bright a film was exposed or exported says nothing about place, and every machine does it otherwise.
    """
    few = image[:: max(1, image.shape[0] // 256), :: max(1, image.shape[1] // 256)]  # as good, and fast
    low, high = np.percentile(few, SPREAD)
    return np.clip((image - low) / max(float(high - low), 1e-6), 0, 1).astype(np.float32)
