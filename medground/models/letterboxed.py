"""An image as input of a network, and the conversion back to its pixels. Letter: S side of the square."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medground import images
from medground.boxes import Letterbox
from medground.errors import MedgroundError

if TYPE_CHECKING:  # predictions of an export need no torch
    from PIL import Image
    from torch import Tensor

SPREAD = (1, 99)  # percent
SAMPLE = 256  # rows and columns, at least, that the percentiles are taken of
FORMAT = 3  # of caches; increased when `read` returns different squares or their files change


@dataclass(frozen=True, slots=True)
class LetterboxedImage:
    """A letterboxed grey image: (S, S) uint8, to save memory."""

    square: NDArray[np.uint8]
    letterbox: Letterbox

    def planes(self) -> NDArray[np.float32]:
        """Return (2, S, S): the image in [0, 1], and its mask, 1 on the image and 0 on the padding."""
        both = np.zeros((2, *self.square.shape), np.float32)
        np.divide(self.square, np.float32(255), out=both[0])
        both[1] = _inside(self.letterbox)
        return both

    def picture(self) -> "Tensor":
        """Return the `planes` as a tensor."""
        import torch

        return torch.from_numpy(self.planes())

    @property
    def inner(self) -> tuple[int, int, int, int]:
        """[x1, y1, x2, y2) in pixels: the image inside its square; the rest is padding."""
        (width, height), (left, top) = self.letterbox.inner, self.letterbox.offset
        return left, top, left + width, top + height

    def sized(
        self, width: int | None, height: int | None, path: Path | str, whose: str
    ) -> "LetterboxedImage":
        """Return the image with boxes in pixels of a record's (width, height); itself if these are None.

        A file may be a scaled copy of the image that was annotated. Raises MedgroundError if the aspect ratio
        differs; the message names `path` and `whose` record it is.
        """
        return replace(self, letterbox=sized(self.letterbox, width, height, path, whose))


def sized(
    letterbox: Letterbox, width: int | None, height: int | None, path: Path | str, whose: str
) -> Letterbox:
    """Return the letterbox of an image with boxes in pixels of a record, as `LetterboxedImage.sized`."""
    own = (letterbox.width, letterbox.height)
    if not (width and height) or own == (width, height):
        return letterbox
    if not is_scaled(own, (width, height)):
        raise MedgroundError(
            f"{path}: is {own[0]} x {own[1]} pixels, {whose} says {width} x {height}, which is no scaled "
            "copy; give the annotated images with --images"
        )
    return replace(letterbox, width=width, height=height, copy=own)


def planes_of(squares: "Tensor", inner: "Tensor") -> "Tensor":
    """Return (B, 2, S, S), `LetterboxedImage.planes` of (B, S, S) bytes on their device; inner: (B, 4)."""
    import torch

    at = torch.arange(squares.shape[-1], device=squares.device)
    x1, y1, x2, y2 = inner[:, :, None].unbind(1)
    across, down = (at >= x1) & (at < x2), (at >= y1) & (at < y2)
    inside = (down[:, :, None] & across[:, None]).float()
    return torch.stack([squares.float() / 255, inside], dim=1)


def mask(letterbox: Letterbox) -> "Tensor":
    """Return (1, 1, S, S), 1 on the image and 0 on the padding."""
    import torch

    return torch.from_numpy(_inside(letterbox))[None, None]


def _inside(letterbox: Letterbox) -> NDArray[np.float32]:
    """Return (S, S), 1 on the image and 0 on the padding."""
    inside = np.zeros((letterbox.size, letterbox.size), np.float32)
    (width, height), (left, top) = letterbox.inner, letterbox.offset
    inside[top : top + height, left : left + width] = 1
    return inside


def is_scaled(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Return whether one size (width, height) is the other one scaled, each rounded by up to a pixel."""
    apart = abs(one[0] * other[1] - one[1] * other[0])
    return min(*one, *other) > 0 and apart <= max(sum(one), sum(other))


def read(path: Path, size: int) -> LetterboxedImage:
    """Return the image of a file, windowed and letterboxed to `size`; raise MedgroundError if unreadable."""
    return of_shown(images.load_shown(path), size)


def of_shown(shown: images.Shown, size: int) -> LetterboxedImage:
    """Return a result of `images.load_shown`, windowed and letterboxed to `size`."""
    if images.is_resized_as_bytes(shown, size):
        return _letterboxed(_windowed_bytes(shown), size)
    return of(images.values(shown), size)


def of(image: NDArray[np.float32], size: int) -> LetterboxedImage:
    """Return a (H, W) image in [0, 1], windowed and letterboxed to `size`."""
    return _letterboxed(windowed(image), size)


def _letterboxed(shown: "Image.Image | NDArray[np.float32]", size: int) -> LetterboxedImage:
    square, letterbox = images.letterbox(shown, size)
    return LetterboxedImage(np.rint(square * 255).astype(np.uint8), letterbox)


def _windowed_bytes(picture: "Image.Image") -> "Image.Image":
    """Return `windowed` of a picture of bytes, by a table."""
    sample = images.values(images.sampled(picture, *(max(1, side // SAMPLE) for side in picture.size)))
    grey = images.unit(np.arange(256, dtype=np.uint8))
    table = np.rint(_scaled(grey, sample) * 255)
    return picture.point(table.astype(np.uint8).tolist())


def windowed(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the image with its 1st and 99th percentile of grey values scaled to 0 and 1.

    This removes differences in exposure between devices. A constant image becomes 0.
    """
    down, across = (max(1, side // SAMPLE) for side in image.shape)
    return _scaled(image, image[::down, ::across])


def _scaled(values: NDArray[np.float32], sample: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return values with the percentiles of a sample scaled to 0 and 1."""
    low, high = np.percentile(sample, SPREAD)
    result: NDArray[np.float32] = np.clip((values - low) / max(float(high - low), 1e-6), 0, 1).astype(
        np.float32
    )
    return result
