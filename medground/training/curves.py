"""A figure of a run: each loss and each validation over the steps, one panel each."""

from pathlib import Path
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

PANEL, EDGE, COLUMNS = (420, 240), 40, 3  # pixels; panels in a row
INK, PALE, LINE, BEST = "#222222", "#dddddd", "#1f6fb4", "#c03028"
NOT_DRAWN = {"step"}
Points = list[tuple[int, float]]


def read(metrics: Path) -> dict[str, Points]:
    """Return the (step, value) points of each name in a metrics.jsonl, in order of first occurrence."""
    curves: dict[str, Points] = {}
    for line in metrics.read_bytes().splitlines():
        values = orjson.loads(line)
        for name, value in values.items():
            if name not in NOT_DRAWN and isinstance(value, int | float):
                curves.setdefault(name, []).append((values["step"], float(value)))
    return curves


def draw(curves: dict[str, Points]) -> "Image.Image":
    """Return a grid of panels, one per curve; the best validation is marked."""
    from PIL import Image, ImageDraw

    width, height = PANEL
    rows = max(1, -(-len(curves) // COLUMNS))
    page = Image.new("RGB", (width * min(COLUMNS, max(1, len(curves))), height * rows), "white")
    pen = ImageDraw.Draw(page)
    for number, (name, points) in enumerate(curves.items()):
        corner = (number % COLUMNS * width, number // COLUMNS * height)
        _panel(pen, corner, name, points)
    return page


def _panel(pen: "ImageDraw.ImageDraw", corner: tuple[int, int], name: str, points: Points) -> None:
    left, top = corner[0] + EDGE, corner[1] + EDGE
    right, bottom = corner[0] + PANEL[0] - EDGE // 2, corner[1] + PANEL[1] - EDGE
    values = [value for _, value in points]
    low, high = min(values), max(values)
    last, span = max(step for step, _ in points), (high - low) or 1.0
    places = [
        (left + (right - left) * step / last, bottom - (bottom - top) * (value - low) / span)
        for step, value in points
    ]
    pen.rectangle((left, top, right, bottom), outline=PALE)
    pen.text((left, corner[1] + 6), f"{name}: {values[-1]:.4g} at the end", fill=INK)
    pen.text((left, top - 14), f"{high:.4g}", fill=INK)
    pen.text((left, bottom + 2), f"{low:.4g}", fill=INK)
    pen.text((right, bottom + 2), f"step {last}", fill=INK, anchor="ra")
    pen.line(places, fill=LINE, width=2)
    if name == "validation":
        x, y = places[values.index(high)]
        pen.ellipse((x - 4, y - 4, x + 4, y + 4), outline=BEST, width=2)
