"""Gray images with a bright disc on most of them, and its mask, in the splits train, val and test."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from medground import run_lengths

WIDTH, HEIGHT = 60, 48
SPLITS = ("train", "train", "train", "val", "test")


def write(folder: Path, count: int = 40, seed: int = 0) -> Path:
    """Write the images, two for each patient, and masks.jsonl; every fourth image has no disc."""
    rng = np.random.default_rng(seed)
    lines = []
    for number in range(count):
        rows, columns = np.mgrid[:HEIGHT, :WIDTH]
        x, y, radius = rng.uniform(12, WIDTH - 12), rng.uniform(12, HEIGHT - 12), rng.uniform(6, 10)
        disc = (columns - x) ** 2 + (rows - y) ** 2 < radius**2
        disc &= number % 4 != 3
        image = rng.normal(90, 12, disc.shape) + 90 * disc
        name = f"image{number}"
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / f"{name}.png")
        lines.append(
            {
                "image_id": name,
                "subject_id": f"p{number // 2}",
                "path": f"{name}.png",
                "width": WIDTH,
                "height": HEIGHT,
                "category": "Disc",
                "counts": run_lengths.packed(disc),
                "split": SPLITS[number // 2 % len(SPLITS)],
            }
        )
    (folder / "masks.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    return folder / "masks.jsonl"
