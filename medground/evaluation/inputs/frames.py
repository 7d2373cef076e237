"""The units of box coordinates in files of other tools, and the conversion to original pixels.

`original`      pixels of the original image
`normalised`    fractions of its width and height
`crop`          fractions of the centered square whose side is the image's shorter side (MAIRA-2)
`letterbox:N`   pixels of an N x N square in which the whole image is centered
`stretch:WxH`   pixels of the image resized to W x H, regardless of its aspect ratio
"""

import re

import numpy as np

from medground.boxes import Letterbox
from medground.errors import BadRecord, MedgroundError
from medground.records import Box

ORIGINAL = "original"
SLACK = 0.05  # how far a box may reach outside its frame, as a fraction of the frame
_SIDE = "([1-9][0-9]{0,4})"  # of a square or an image in pixels
_FRAME = re.compile(rf"(original|normalised|crop)|letterbox:{_SIDE}|stretch:{_SIDE}x{_SIDE}")


def check(frame: str) -> None:
    """Raise MedgroundError unless this is one of the frames."""
    if not _FRAME.fullmatch(frame):
        raise MedgroundError(
            f"{frame}: not a frame; say original, normalised, crop, letterbox:640 or stretch:224x224"
        )


def to_original(frame: str, box: Box, width: int, height: int) -> Box:
    """Return the box in pixels of the original image. Raises BadRecord if it lies outside its frame."""
    kind, _, size = frame.partition(":")
    if kind == ORIGINAL:
        return box
    if kind == "letterbox":
        _refuse_beyond(frame, box, int(size), int(size))
        x1, y1, x2, y2 = Letterbox(width, height, int(size)).to_original(np.array([box]))[0].tolist()
        return x1, y1, x2, y2
    across, down = (int(each) for each in size.split("x")) if kind == "stretch" else (1, 1)
    _refuse_beyond(frame, box, across, down)
    wide, high = (min(width, height),) * 2 if kind == "crop" else (width, height)
    left, top, x, y = (width - wide) / 2, (height - high) / 2, wide / across, high / down
    return left + box[0] * x, top + box[1] * y, left + box[2] * x, top + box[3] * y


def _refuse_beyond(frame: str, box: Box, across: int, down: int) -> None:
    low, high = min(box[0] / across, box[1] / down), max(box[2] / across, box[3] / down)
    if low < -SLACK or high > 1 + SLACK:
        raise BadRecord(f"lies beyond the frame {frame}: is the file in another one?", "box")
