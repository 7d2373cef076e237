"""Images of a bright or dark square on one side, with two questions about each: side and color."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 32
TEXTS = {"side": "on which side is the square?", "color": "is the square bright?"}


def make(folder: Path, count: int = 100, seed: int = 0) -> list[dict]:
    """Write the images and questions.jsonl; return the questions."""
    made = np.random.default_rng(seed)
    lines = []
    for number in range(count):
        right, bright = (int(each) for each in made.integers(2, size=2))
        pixels = 110 + made.normal(0, 4, (SIZE, SIZE))
        x, y = 3 + 16 * right + made.integers(0, 4), made.integers(4, 18)
        pixels[y : y + 10, x : x + 10] = 230 if bright else 20
        name = f"i{number}"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{name}.png")
        true = {"side": ("Left", "right.")[right], "color": ("No", "yes")[bright]}
        for kind, text in TEXTS.items():
            lines.append(
                {
                    "image_id": name,
                    "question_id": kind,
                    "subject_id": f"p{number}",
                    "path": f"{name}.png",
                    "text": text,
                    "answer": true[kind],
                    "answer_type": "open" if kind == "side" else "closed",
                    "question_type": kind,
                    "split": ("train", "train", "train", "val", "test")[number % 5],
                }
            )
    write(folder / "questions.jsonl", lines)
    return lines


def write(path: Path, lines: list[dict]) -> Path:
    """Write the lines as JSON lines."""
    path.write_text("".join(json.dumps(each) + "\n" for each in lines))
    return path
