"""Crude images that a detector is trained on in seconds: ellipses for lungs and heart, a bar for the spine.

The boxes are exact. "Right" is the left half of the image, and the right lung is the larger one.
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from medground.anatomy import regions
from medground.anatomy.image_set import ImageSet

DRAWN = ["right lung", "left lung", "cardiac silhouette", "spine"]


def draw(rng: np.random.Generator, width: int = 120, height: int = 100):
    """Return ((H, W) float32 in [0, 1], {name: box in pixels}) of one image."""
    down, across = np.mgrid[0:height, 0:width] + 0.5
    image = np.full((height, width), 0.75) + rng.normal(0, 0.03, (height, width))
    x, y, size = rng.uniform(0.45, 0.55), rng.uniform(0.42, 0.55), rng.uniform(0.8, 1.15)
    shapes = {
        "right lung": (x - 0.2 * size, y, 0.15 * size, 0.33 * size, -0.45),
        "left lung": (x + 0.2 * size, y, 0.13 * size, 0.30 * size, -0.45),
        "cardiac silhouette": (x + 0.05, y + 0.2 * size, 0.12 * size, 0.12 * size, 0.35),
        "spine": (x, 0.5, 0.03, 0.48, 0.15),
    }
    boxes = {}
    for name, (cx, cy, rx, ry, light) in shapes.items():
        inside = ((across / width - cx) / rx) ** 2 + ((down / height - cy) / ry) ** 2 <= 1
        image[inside] += light
        rows, columns = np.nonzero(inside)
        boxes[name] = tuple(
            float(each) for each in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        )
    return np.clip(image, 0, 1).astype(np.float32), boxes


def write_images(folder: Path, count: int, seed: int = 0, width: int = 120, height: int = 100) -> list[dict]:
    """Write PNG files into the folder; return the anatomy line of each, every third without a heart."""
    lines, rng = [], np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image, boxes = draw(rng, width, height)
        name = f"image{seed}_{number}"
        Image.fromarray((image * 255).astype(np.uint8)).save(folder / f"{name}.png")
        if number % 3 == 2:
            del boxes["cardiac silhouette"]
        found = [{"name": region, "box": box} for region, box in boxes.items()]
        size = {"width": width, "height": height}
        lines.append({"image_id": name, "study_id": "s1", "path": f"{name}.png", **size, "regions": found})
    return lines


def write_jsonl(path: Path, lines: list[dict]) -> Path:
    """Write the lines to a file; return its path."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def image_set(count: int, size: int, seed: int = 0) -> ImageSet:
    """Return square images with all regions' rows, as `read_images` gives them."""
    rng = np.random.default_rng(seed)
    squares, found = np.zeros((count, size, size), np.uint8), np.zeros((count, len(regions.NAMES), 4))
    present = np.zeros((count, len(regions.NAMES)), np.int8)
    for n in range(count):
        image, boxes = draw(rng, size, size)
        squares[n] = (image * 255).astype(np.uint8)
        for name, box in boxes.items():
            row = regions.NAMES.index(name)
            found[n, row], present[n, row] = np.array(box) / size, 1
    return ImageSet(squares, found.astype(np.float32), present)
