"""Toy images with known boxes, which train in seconds: an ellipse for each lung and a bright blob."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 120, 100


@dataclass(frozen=True)
class Toy:
    """A folder of toy images with anatomy.jsonl, pairs.jsonl and phrases.jsonl."""

    folder: Path

    def __getattr__(self, name: str) -> str:
        return str(self.folder / f"{name}.jsonl")


def make(folder: Path, count: int = 12, seed: int = 0) -> Toy:
    """Write `count` images; every fourth is in the validation split and has neither anatomy nor pair."""
    rng = np.random.default_rng(seed)
    anatomies, pairs, phrases = [], [], []
    for number in range(count):
        pixels, boxes = _draw(rng)
        name = f"image{number}"
        Image.fromarray(pixels).save(folder / f"{name}.png")
        image = {
            "image_id": name,
            "study_id": f"s{number}",
            "subject_id": f"p{number}",
            "path": f"{name}.png",
            "width": WIDTH,
            "height": HEIGHT,
        }
        regions = [{"name": region, "box": boxes[region]} for region in ("right lung", "left lung")]
        anatomies.append(image | {"regions": regions})
        side = "left" if number % 2 else "right"
        text = f"opacity in the {side} lung"
        triplet = {
            "region": f"{side} lung",
            "finding": "lung opacity",
            "existence": "present",
            "finding_span": [0, 7],
            "region_span": [15, 15 + len(f"{side} lung")],
            "cue": None,
            "cue_span": None,
            "region_source": "explicit",
            "rule": "present",
        }
        box = boxes[f"{side} lung"]
        pairs.append(
            image
            | {
                "sentence_id": f"s{number}|0",
                "text": text,
                "regions": [f"{side} lung"],
                "region_boxes": [box],
            }
            | {"box": box, "triplets": [triplet], "rule": "S1"}
        )
        phrases.append(
            image
            | {"phrase_id": f"{name}|1", "text": "bright spot", "boxes": [boxes["blob"]], "category": "Spot"}
            | {"split": "val" if number % 4 == 3 else "train"}
        )
    anatomies, pairs = ([each for n, each in enumerate(all_) if n % 4 != 3] for all_ in (anatomies, pairs))
    for name, lines in (("anatomy", anatomies), ("pairs", pairs), ("phrases", phrases)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return Toy(folder)


def _draw(rng: np.random.Generator) -> tuple[np.ndarray, dict[str, list[float]]]:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    drawn = np.full((HEIGHT, WIDTH), 180.0)
    shift = rng.uniform(-8, 8, 2)
    boxes = {}
    for region, centre in (("right lung", 35), ("left lung", 85)):
        x, y = centre + shift[0], 50 + shift[1]
        drawn[((columns - x) / 18) ** 2 + ((rows - y) / 35) ** 2 < 1] = 60
        boxes[region] = [x - 18, y - 35, x + 18, y + 35]
    x, y = 35 + shift[0] + 50 * rng.integers(2), 30 + shift[1] + rng.uniform(0, 40)
    drawn[(columns - x) ** 2 + (rows - y) ** 2 < 64] = 240
    boxes["blob"] = [x - 8, y - 8, x + 8, y + 8]
    noisy = drawn + rng.normal(0, 4, drawn.shape)
    return noisy.clip(0, 255).astype(np.uint8), {k: [round(float(v), 1) for v in b] for k, b in boxes.items()}
