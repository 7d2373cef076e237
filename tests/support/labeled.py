"""Toy images with labels in the splits train, val and test."""

import json
from pathlib import Path


def write(folder: Path, target: Path, classes: tuple[str, ...] = ("Bright", "Side")) -> Path:
    """Write a label line for each toy image of phrases.jsonl; the images take turns in the splits."""
    lines = []
    for number, line in enumerate((folder / "phrases.jsonl").read_text().splitlines()):
        image = json.loads(line)
        kept = {key: image[key] for key in ("image_id", "subject_id", "path")}
        states = {name: number // (3 * (k + 1)) % 2 for k, name in enumerate(classes)}
        lines.append(kept | {"labels": states, "split": ("train", "val", "test")[number % 3]})
    target.write_text("".join(json.dumps(each) + "\n" for each in lines))
    return target
