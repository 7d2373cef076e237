"""Marks on an image: side markers, burned-in text, shutters, borders."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from medground.phantom.patient import Exposure

WORDS = (
    "PORTABLE",
    "AP",
    "SUPINE",
    "SEMI-ERECT",
    "UPRIGHT",
    "PA",
    "ERECT",
    "AP PORTABLE",
    "SITTING",
    "12:40",
    "07:15",
)


def burn_in(rng: np.random.Generator, image: NDArray[np.uint8], exposure: Exposure) -> NDArray[np.uint8]:
    """Return the image with its marks; its size stays."""
    image = _borders(rng, image)
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    if rng.random() < 0.75:
        _marker(rng, draw, exposure)
    if rng.random() < (0.3 if exposure.view == "AP" else 0.1):
        _word(rng, draw, exposure, str(rng.choice(WORDS)))
    return np.asarray(picture)


def _marker(rng: np.random.Generator, draw: ImageDraw.ImageDraw, exposure: Exposure) -> None:
    """Draw an L on the right side of the image or an R on the left, sometimes in a disc or a box."""
    w, h = exposure.width, exposure.height
    left = rng.random() < 0.6
    size = max(8, int(rng.uniform(0.035, 0.07) * max(w, h)))
    x = w * (float(rng.uniform(0.86, 0.96)) if left else float(rng.uniform(0.03, 0.12)))
    y = h * float(rng.uniform(0.03, 0.3))
    white = int(rng.uniform(200, 256))
    style = rng.random()
    if style < 0.15:
        draw.ellipse((x - 0.3 * size, y - 0.1 * size, x + 1.0 * size, y + 1.2 * size), fill=20, outline=white)
    elif style < 0.25:
        draw.rectangle((x - 0.3 * size, y - 0.1 * size, x + 1.0 * size, y + 1.2 * size), fill=90)
    draw.text((x, y), "L" if left else "R", fill=white, font=ImageFont.load_default(size))


def _word(rng: np.random.Generator, draw: ImageDraw.ImageDraw, exposure: Exposure, word: str) -> None:
    size = max(7, int(rng.uniform(0.02, 0.045) * max(exposure.width, exposure.height)))
    place = (
        float(rng.uniform(0.02, 0.7)) * exposure.width,
        float(rng.choice([0.015, 0.94])) * exposure.height,
    )
    draw.text(place, word, fill=int(rng.uniform(170, 256)), font=ImageFont.load_default(size))


def _borders(rng: np.random.Generator, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the image with shutters over some percent of each border, black or (rarely) white, straight or a
    little askew."""
    if rng.random() > 0.3:
        return image
    height, width = image.shape
    colour = 255 if rng.random() < 0.12 else int(rng.integers(0, 12))
    v, u = np.mgrid[0:height, 0:width].astype(np.float32)
    slant = rng.normal(0, 0.008, 4)
    cover = np.where(rng.random(4) < 0.5, rng.uniform(0, 0.05, 4), 0) * [width, width, height, height]
    shut = (u < cover[0] + slant[0] * (v - height / 2)) | (width - u < cover[1] + slant[1] * (v - height / 2))
    shut |= (v < cover[2] + slant[2] * (u - width / 2)) | (height - v < cover[3] + slant[3] * (u - width / 2))
    return np.where(shut, np.uint8(colour), image)
