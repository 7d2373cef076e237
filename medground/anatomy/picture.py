"""Region boxes on films as one picture, to see at a glance what a detector has learned."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from medground.anatomy.image_set import ImageSet

SIDE, COLUMNS, LEAST_SCORE = 384, 4, 0.5
TRUE, FOUND, DOUBTED = "#5dff8f", "#ffa62b", "#ff6b5e"


def draw_regions(films: ImageSet, found: NDArray[np.float32], scores: NDArray[np.float32]) -> Image.Image:
    """A sheet of the films: true boxes green, found ones orange, found but not there red.

    found: (N, Q, 4) in shares of the square; scores: (N, Q); boxes that score less than a half stay out.
    """
    cells = [_cell(films, row, found[row], scores[row]) for row in range(len(films))]
    rows = -(-len(cells) // COLUMNS)
    sheet = Image.new("RGB", (SIDE * min(COLUMNS, len(cells)), SIDE * rows))
    for number, cell in enumerate(cells):
        sheet.paste(cell, (SIDE * (number % COLUMNS), SIDE * (number // COLUMNS)))
    return sheet


def _cell(films: ImageSet, row: int, found: NDArray[np.float32], scores: NDArray[np.float32]) -> Image.Image:
    picture = Image.fromarray(films.squares[row]).resize((SIDE, SIDE)).convert("RGB")
    draw = ImageDraw.Draw(picture)
    for n, there in enumerate(films.present[row]):
        if there == 1:
            draw.rectangle(_pixels(films.boxes[row, n]), outline=TRUE)
        if scores[n] >= LEAST_SCORE:
            draw.rectangle(_pixels(found[n]), outline=DOUBTED if there == 0 else FOUND)
    return picture


def _pixels(box: NDArray[np.float32]) -> list[float]:
    """Corners in pixels of the cell, never turned inside out."""
    x1, y1, x2, y2 = (float(each) * SIDE for each in box)
    return [min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)]
