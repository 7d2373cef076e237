"""Boxes over the image, as a figure.

Predicted boxes are solid, each in its own color with its score; ground-truth boxes are dashed and green. The
text is in a strip below the image. Boxes are in pixels of the original image, scaled with it and clipped.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from medground.records import Box, ScoredBox

LONGEST, SHORTEST = 1024, 384  # limits for the long side of the picture, in pixels
NARROWEST = 240  # the strip below a slim picture is wider than it, to hold words
FOUND = ("#ffa62b", "#35c4ff", "#ff6ec7", "#f4e409", "#b79cff", "#ff6b5e")
TRUE = "#5dff8f"
HALO, STRIP, INK, PALE = "#000000", "#14181d", "#ffffff", "#aab4bf"
NOTHING = "nothing to show"
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def overlay(
    image: NDArray[np.float32],
    found: Sequence[ScoredBox],
    label: str,
    truth: Sequence[Box] = (),
    frame: tuple[int, int] | None = None,
) -> Image.Image:
    """Return the (H, W) image in [0, 1] with its boxes, and a strip below with the phrase and the legend.

    Without a found box the strip says "nothing to show". The image's long side is brought to between
    `SHORTEST` and `LONGEST` pixels. Boxes are in pixels of an image of size `frame` (width, height), of which
    this one is a scaled copy; without it, in its own.
    """
    picture = boxed(image, found, truth, frame=frame)
    width = max(NARROWEST, picture.width)
    return _under(picture, _strip(width, label, _legend(found, truth), _font(width)))


def boxed(
    image: NDArray[np.float32],
    found: Sequence[ScoredBox],
    truth: Sequence[Box] = (),
    longest: int = LONGEST,
    frame: tuple[int, int] | None = None,
) -> Image.Image:
    """Return the (H, W) image in [0, 1] with only its boxes and scores, its long side at most `longest`;
    `frame` as for `overlay`."""
    picture = _picture(image, longest)
    width, height = frame or (image.shape[1], image.shape[0])
    scale = (picture.width / width, picture.height / height)
    draw = ImageDraw.Draw(picture)
    line = max(2, round(max(picture.size) / 300))
    for box in truth:
        _dashed(draw, _scaled(box, scale, picture.size), line)
    corners = [_scaled(each.box, scale, picture.size) for each in found]
    for number, corner in enumerate(corners):
        _solid(draw, corner, FOUND[number % len(FOUND)], line)
    for number, each in enumerate(found):  # after all lines, so that none runs through a number
        colour = FOUND[number % len(FOUND)]
        _tag(draw, corners[number], f"{each.score:.2f}", colour, _font(picture.width))
    return picture


def sheet(pictures: Iterable[Image.Image], columns: int = 3, gap: int = 8) -> Image.Image:
    """Return the pictures (at least one) in rows of `columns`, each in a cell of the size of the largest."""
    shown = list(pictures)
    across, down = max(each.width for each in shown) + gap, max(each.height for each in shown) + gap
    rows = -(-len(shown) // columns)
    whole = Image.new("RGB", (min(columns, len(shown)) * across + gap, rows * down + gap), STRIP)
    for number, each in enumerate(shown):
        whole.paste(each, (gap + number % columns * across, gap + number // columns * down))
    return whole


def _picture(image: NDArray[np.float32], most: int) -> Image.Image:
    """Return the image in color within the size limits."""
    grey = Image.fromarray((np.clip(np.nan_to_num(image), 0, 1) * 255).round().astype(np.uint8))
    factor = min(most, max(SHORTEST, *grey.size)) / max(grey.size)
    size = (max(1, round(grey.width * factor)), max(1, round(grey.height * factor)))
    shown = grey.resize(size, Image.Resampling.LANCZOS if factor < 1 else Image.Resampling.BICUBIC)
    return shown.convert("RGB")


def _scaled(box: Box, scale: tuple[float, float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return integer corners inside the picture, at least one pixel apart on each axis."""
    x1, y1, x2, y2 = (round(each * scale[i % 2]) for i, each in enumerate(box))
    x1, y1 = (min(max(each, 0), limit - 1) for each, limit in zip((x1, y1), size, strict=True))
    x2, y2 = (min(each, limit - 1) for each, limit in zip((x2, y2), size, strict=True))
    return x1, y1, max(x1, x2), max(y1, y2)


def _solid(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], colour: str, line: int) -> None:
    draw.rectangle(box, outline=HALO, width=line + 2)
    x1, y1, x2, y2 = box
    if min(x2 - x1, y2 - y1) > 2 * line:
        box = (x1 + 1, y1 + 1, x2 - 1, y2 - 1)
    draw.rectangle(box, outline=colour, width=line)


def _dashed(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], line: int) -> None:
    x1, y1, x2, y2 = box
    draw.rectangle(box, outline=HALO, width=line + 2)
    on, off = 5 * line, 4 * line
    for x in range(x1, x2, on + off):
        end = min(x + on, x2)
        for y in (y1, max(y1, y2 - line + 1)):
            draw.rectangle((x, y, end, min(y + line - 1, y2)), fill=TRUE)
    for y in range(y1, y2, on + off):
        end = min(y + on, y2)
        for x in (x1, max(x1, x2 - line + 1)):
            draw.rectangle((x, y, min(x + line - 1, x2), end), fill=TRUE)


def _tag(
    draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], words: str, colour: str, font: Font
) -> None:
    """Draw the text on a patch of the box color: above its top left corner if there is room, else inside."""
    left, top, right, bottom = (round(each) for each in draw.textbbox((0, 0), words, font=font))
    width, height = right - left, bottom - top
    pad = max(2, height // 4)
    whole_width, whole_height = draw.im.size
    x = max(0, min(box[0], whole_width - width - 2 * pad))
    y = box[1] - height - 2 * pad
    y = max(0, min(box[1], whole_height - height - 2 * pad)) if y < 0 else y
    draw.rectangle((x, y, x + width + 2 * pad, y + height + 2 * pad), fill=colour)
    draw.text((x + pad - left, y + pad - top), words, fill=HALO, font=font)


Legend = list[tuple[str, str, bool]]  # text, color, dashed


def _legend(found: Sequence[ScoredBox], truth: Sequence[Box]) -> Legend:
    legend: Legend = [("found", FOUND[0], False)] if found else [(NOTHING, PALE, False)]
    return [*legend, ("truth", TRUE, True)] if truth else legend


def _strip(width: int, label: str, legend: Legend, font: Font) -> Image.Image:
    """Return a strip with the text, wrapped to the width, and a color legend."""
    lines = wrapped(label, width - 16, font)
    step = round(_height(font) * 1.35)
    strip = Image.new("RGB", (width, step * (len(lines) + 1) + 16), STRIP)
    draw = ImageDraw.Draw(strip)
    for number, line in enumerate(lines):
        draw.text((8, 8 + number * step), line, fill=INK, font=font)
    x, y = 8, 8 + len(lines) * step
    for words, colour, dashed in legend:
        if words != NOTHING:
            x = _sample(draw, x, y + step // 2, colour, dashed, step)
        draw.text((x, y), words, fill=PALE, font=font)
        x += round(draw.textlength(words, font=font)) + step
    return strip


def _sample(draw: ImageDraw.ImageDraw, x: int, y: int, colour: str, dashed: bool, step: int) -> int:
    """Draw a short line in the style of a box; return the x position of the text after it."""
    length, thick = round(step * 1.2), max(2, step // 8)
    pieces = [(0.0, 0.38), (0.62, 1.0)] if dashed else [(0.0, 1.0)]
    for begin, end in pieces:
        draw.rectangle((x + begin * length, y - thick, x + end * length, y), fill=colour)
    return x + length + step // 3


def wrapped(words: str, width: float, font: Font) -> list[str]:
    """Return the text in lines no wider than the width, at least one; a wider word is broken."""
    lines = [""]
    for word in words.split():
        joined = f"{lines[-1]} {word}".strip()
        if font.getlength(joined) <= width:
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if lines[-1] and font.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return lines


def _under(picture: Image.Image, strip: Image.Image) -> Image.Image:
    whole = Image.new("RGB", (strip.width, picture.height + strip.height), STRIP)
    whole.paste(picture, (0, 0))
    whole.paste(strip, (0, picture.height))
    return whole


def _font(width: int) -> Font:
    return ImageFont.load_default(size=min(24, max(12, round(width / 38))))


def _height(font: Font) -> float:
    return font.getbbox("Ag")[3]
