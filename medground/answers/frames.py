"""The units of box coordinates in files of other tools, and the conversion to original pixels.

`original`       pixels of the original image
`normalised`     fractions of its width and height
`crop`           fractions of the centered square whose side is the image's shorter side (MAIRA-2)
`letterbox:N`    pixels of an N x N square in which the whole image is centered
`padded:N`       N times the fractions of the image padded to a square (LLaVA, MedGemma); `letterbox:1` is
                 `padded:1`
`stretch:WxH`    pixels of the image resized to W x H, regardless of its aspect ratio
`swapped`        pixels of the image as if its width and height were exchanged: boxes that a processor of
                 transformers scaled with target_sizes of (width, height) instead of (height, width)
`smart-resize`   pixels of the image as Qwen2.5-VL's processor resizes it, to another size for each image;
                 `smart-resize:MIN-MAX` if its min_pixels and max_pixels are not those of the checkpoints

`yx:` before one of them means that the boxes are [y1, x1, y2, x2], and `cxcywh:` that they are the center,
width and height: Grounding DINO's own code and YOLO write `cxcywh:normalised`.
"""

import math
import re

import numpy as np

from medground.boxes import Letterbox
from medground.errors import BadRecord, MedgroundError
from medground.records import Box

ORIGINAL = "original"
SWAPPED = "swapped"
TURNED = "yx:"
CENTERED = "cxcywh:"
SLACK = 0.05  # how far a box may reach outside its frame, as a fraction of the frame
FACTOR = 28  # Qwen2.5-VL's sides are multiples of it
PIXELS = (
    56 * 56,
    16384 * 28 * 28,
)  # min_pixels and max_pixels in preprocessor_config.json of its checkpoints
LIMITS = (  # the largest number of a frame that models use
    (1, "normalised"),
    (100, "stretch:100x100"),
    (1000, "stretch:1000x1000"),
    (1024, "stretch:1024x1024"),
)
_SIDE = "([1-9][0-9]{0,4})"  # of a square or an image in pixels
_AREA = "([1-9][0-9]{0,9})"
_FRAME = re.compile(
    rf"(?:{TURNED}|{CENTERED})?(?:(original|normalised|crop|swapped|smart-resize)|letterbox:{_SIDE}|padded:{_SIDE}|stretch:{_SIDE}x{_SIDE}"
    rf"|smart-resize:{_AREA}-{_AREA})"
)


def check(frame: str) -> None:
    """Raise MedgroundError unless this is one of the frames."""
    if not _FRAME.fullmatch(frame):
        raise MedgroundError(
            f"{frame}: not a frame; say original, normalised, crop, letterbox:640, padded:1000, "
            "stretch:224x224, swapped or smart-resize"
        )


def to_original(frame: str, box: Box, width: int, height: int) -> Box:
    """Return the box in pixels of the original image. Raises BadRecord if it lies outside its frame."""
    frame, box = corners(frame, box)
    kind, _, size = frame.partition(":")
    if kind == ORIGINAL:
        return box
    if kind == "letterbox" and size != "1":
        _refuse_beyond(frame, box, int(size), int(size))
        x1, y1, x2, y2 = Letterbox(width, height, int(size)).to_original(np.array([box]))[0].tolist()
        return x1, y1, x2, y2
    across, down = _sides(kind, size, width, height)
    _refuse_beyond(frame, box, across, down)
    wide, high = _inside(kind, width, height)
    left, top, x, y = (width - wide) / 2, (height - high) / 2, wide / across, high / down
    return left + box[0] * x, top + box[1] * y, left + box[2] * x, top + box[3] * y


def corners(frame: str, box: Box) -> tuple[str, Box]:
    """Return the frame without the order of its numbers, and the box as x1, y1, x2, y2."""
    if frame.startswith(TURNED):
        return frame.removeprefix(TURNED), (box[1], box[0], box[3], box[2])
    if frame.startswith(CENTERED):
        x, y, wide, high = box
        return frame.removeprefix(CENTERED), (x - wide / 2, y - high / 2, x + wide / 2, y + high / 2)
    return frame, box


def _inside(kind: str, width: int, height: int) -> tuple[int, int]:
    """Return the width and height, in original pixels, of what the frame shows around the image's center."""
    if kind == "crop":
        return (min(width, height),) * 2
    return (max(width, height),) * 2 if kind in ("padded", "letterbox") else (width, height)


def _sides(kind: str, size: str, width: int, height: int) -> tuple[int, int]:
    """Return the width and height of the frame, in its own units."""
    if kind == "stretch":
        across, down = size.split("x")
        return int(across), int(down)
    if kind == SWAPPED:
        return height, width
    if kind == "smart-resize":
        least, most = map(int, size.split("-")) if size else PIXELS
        return smart_resize(width, height, least, most)
    return (int(size), int(size)) if size else (1, 1)


def smart_resize(width: int, height: int, least: int = PIXELS[0], most: int = PIXELS[1]) -> tuple[int, int]:
    """Return the (width, height) to which Qwen2.5-VL's processor resizes an image.

    Both are multiples of `FACTOR`, and their product is from `least` to `most`.
    """
    wide, high = (max(FACTOR, round(side / FACTOR) * FACTOR) for side in (width, height))
    if wide * high > most:
        scale = math.sqrt(width * height / most)
        wide, high = (max(FACTOR, math.floor(side / scale / FACTOR) * FACTOR) for side in (width, height))
    elif wide * high < least:
        scale = math.sqrt(least / (width * height))
        wide, high = (math.ceil(side * scale / FACTOR) * FACTOR for side in (width, height))
    return wide, high


def _refuse_beyond(frame: str, box: Box, across: int, down: int) -> None:
    low, high = min(box[0] / across, box[1] / down), max(box[2] / across, box[3] / down)
    if low < -SLACK or high > 1 + SLACK:
        like = looks_like(max(map(abs, box)), padded=frame.startswith("padded"))
        raise BadRecord(f"lies beyond the frame {frame}: is it --coordinates {like}?", "box")


def looks_like(largest: float, padded: bool = False) -> str:
    """Return the frame of a model whose largest number this may be; padded: also that of a padded image."""
    limit, like = next(((limit, name) for limit, name in LIMITS if largest <= limit), (0, ORIGINAL))
    return f"padded:{limit} or {like}" if padded and limit else like


def sides(frame: str, width: int, height: int) -> tuple[int, int]:
    """Return the width and height of an image, or of the square with it, in the units of a frame."""
    kind, _, size = frame.removeprefix(TURNED).removeprefix(CENTERED).partition(":")
    return (width, height) if kind == ORIGINAL else _sides(kind, size, width, height)
