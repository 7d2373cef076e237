"""Region boxes on images as one picture, to check a detector at a glance."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from medground.anatomy.image_set import ImageSet

SIDE, COLUMNS, LEAST_SCORE = 384, 4, 0.5
TRUE, FOUND, DOUBTED = "#5dff8f", "#ffa62b", "#ff6b5e"


def draw_regions(images: ImageSet, found: NDArray[np.float32], scores: NDArray[np.float32]) -> Image.Image:
    """Return a sheet of the images: ground-truth boxes green, detected ones orange, false detections red.

    found: (N, Q, 4) in shares of the square; scores: (N, Q); boxes with a score below 0.5 are not shown.
    """
    cells = [_cell(images, row, found[row], scores[row]) for row in range(len(images))]
    rows = -(-len(cells) // COLUMNS)
    sheet = Image.new("RGB", (SIDE * min(COLUMNS, len(cells)), SIDE * rows))
    for number, cell in enumerate(cells):
        sheet.paste(cell, (SIDE * (number % COLUMNS), SIDE * (number // COLUMNS)))
    return sheet


def _cell(images: ImageSet, row: int, found: NDArray[np.float32], scores: NDArray[np.float32]) -> Image.Image:
    picture = Image.fromarray(images.squares[row]).resize((SIDE, SIDE)).convert("RGB")
    draw = ImageDraw.Draw(picture)
    for n, there in enumerate(images.present[row]):
        if there == 1:
            draw.rectangle(_pixels(images.boxes[row, n]), outline=TRUE)
        if scores[n] >= LEAST_SCORE:
            draw.rectangle(_pixels(found[n]), outline=DOUBTED if there == 0 else FOUND)
    return picture


def _pixels(box: NDArray[np.float32]) -> list[float]:
    """Corners in pixels of the cell, in increasing order."""
    x1, y1, x2, y2 = (float(each) * SIDE for each in box)
    return [min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)]
