"""The training data of the example model: phrases of NIH images and phantoms, boxes in shares of the square.

Used by tools/train_example. As a program, it lists the images of labels.csv.

Letters: V views of all images, C channels, h x w patches.
"""

import csv
import json
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from medground import jsonl
from medground.records import Anatomy, Phrase
from medground.reports import laterality, negation

MOST = 12  # phrases of an image in a step
CELLS = 12  # patches along a side
REGIONS = "lung|cardiac silhouette|mediastinum|costophrenic angle|hilar"
CLASSES = {
    "Atelectasis": ("Atelectasis", "Collapse", "Volume loss"),
    "Calcification": ("Calcification", "Calcified granuloma"),
    "Cardiomegaly": ("Cardiomegaly", "Enlarged heart", "Enlarged cardiac silhouette"),
    "Consolidation": ("Consolidation", "Airspace opacity", "Airspace consolidation", "Opacity"),
    "Diffuse Nodule": ("Diffuse nodules", "Multiple nodules"),
    "Edema": ("Pulmonary edema", "Edema"),
    "Effusion": ("Pleural effusion", "Effusion", "Pleural fluid"),
    "Emphysema": ("Emphysema", "Emphysematous changes", "Hyperinflation"),
    "Fibrosis": ("Fibrosis", "Scarring", "Fibrotic changes"),
    "Fracture": ("Rib fracture", "Fracture"),
    "Infiltrate": ("Infiltrate", "Infiltrates", "Infiltration"),
    "Mass": ("Mass", "Lung mass"),
    "Nodule": ("Nodule", "Lung nodule", "Pulmonary nodule"),
    "Pleural Thickening": ("Pleural thickening",),
    "Pneumonia": ("Pneumonia",),
    "Pneumothorax": ("Pneumothorax",),
}
LABELS = {"Infiltration": "Infiltrate", "Pleural_Thickening": "Pleural Thickening"}
UNLABELED = ("Calcification", "Diffuse Nodule", "Fracture")  # classes that NIH has no label for
WIDER = {"Consolidation": {"Infiltrate", "Edema"}}  # NIH labels that ChestX-Det's class includes
HEALTHY = {"No Finding"}
NORMAL, LIKELY, MISSING = 0.5, 0.5, 0.5  # shares of "No Finding", of labels of WIDER, of missing labels
OTHER = {"left": "right", "right": "left"}


@dataclass(frozen=True)
class Pair:
    """A phrase of an image: its box in shares of the square, or None, and its presence, None if unknown."""

    text: str
    box: tuple[float, ...] | None
    present: bool | None
    weight: float = 1.0
    finding: str | None = None
    side: str | None = None


@dataclass
class Source:
    """Images with features: rows of each image in (V, C, h, w) features, and pairs of each image.

    The first row of an image is of the image as it is.
    """

    features: Tensor
    facts: list[dict[str, Any]]
    pairs: dict[str, list[Pair]]
    rows: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def read(cls, name: str, pairs: dict[str, list[Pair]]) -> "Source":
        """Return the features of a file of `tools/example_features` with these pairs."""
        with safe_open(name, "pt") as stream:
            facts = json.loads(stream.metadata()["facts"])
            found = cls(stream.get_tensor("maps"), facts, pairs)
        for row, each in enumerate(facts):
            found.rows[each["id"]].append(row)
        return found


def main_box(phrase: Phrase) -> tuple[float, ...] | None:
    """Return the box around the boxes of a phrase, in shares of the square."""
    if not phrase.boxes:
        return None
    array = np.array(phrase.boxes)
    return in_square((*array[:, :2].min(0), *array[:, 2:].max(0)), phrase.width or 1, phrase.height or 1)


def in_square(box: Sequence[float], width: int, height: int) -> tuple[float, ...]:
    """Return a box in pixels of the image, in shares of the letterboxed square."""
    longest = max(width, height)
    left, top = (longest - width) / 2, (longest - height) / 2
    moved = (box[0] + left, box[1] + top, box[2] + left, box[3] + top)
    return tuple(float(each) / longest for each in moved)


def read(path: Path, kind: type) -> list[Any]:
    """Return the records of a file."""
    with path.open("rb") as stream:
        return list(jsonl.read(stream, kind, jsonl.BadLines()))


def region_pairs(path: Path | None) -> dict[str, list[Pair]]:
    """Return the regions of each image as phrases; they are present."""
    found: dict[str, list[Pair]] = defaultdict(list)
    for each in read(path, Anatomy) if path and path.exists() else ():
        for region in each.regions:
            if region.score > 0.3 and any(part in region.name for part in REGIONS.split("|")):
                box = in_square(region.box, each.width, each.height)
                found[each.image_id].append(Pair(region.name, box, True, 0.3, side=side_in(region.name)))
    return found


def side_in(text: str) -> str | None:
    """Return the side that a text names, None for none or both."""
    side = laterality.side_of(text)
    return side if side in OTHER else None


@dataclass
class Nih:
    """The NIH images with everything known of them.

    counts: the number of images by view, and by whether the label is "No Finding".
    """

    folder: Path
    patient: dict[str, str] = field(default_factory=dict)
    labels: dict[str, set[str]] = field(default_factory=dict)
    views: dict[str, str] = field(default_factory=dict)
    counts: Counter[tuple[str, bool]] = field(default_factory=Counter)
    pairs: dict[str, list[Pair]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        self.phrases, self.bare, self.absent = (
            read(self.folder / f"{name}.jsonl", Phrase) for name in ("phrases", "bare", "absent")
        )
        self.exhaustive = {e.image_id for e in self.bare + self.absent if e.extra["source"] == "chestx-det"}
        for each in self.phrases + self.bare + self.absent:
            side = each.extra.get("side")
            several = side is None and len(each.boxes or ()) > 1
            box = None if several else main_box(each)
            self.pairs[each.image_id].append(Pair(each.text, box, bool(each.boxes), 1.0, each.category, side))
        self._add_other_sides()
        self._add_labels()

    def _add_other_sides(self) -> None:
        """Add the finding on the other side as absent, where every finding is annotated."""
        sides = defaultdict(set)
        for each in self.phrases:
            sides[each.image_id, each.category].add(each.extra["side"])
        for (image, finding), known in sides.items():
            side = next(iter(known))
            if image in self.exhaustive and len(known) == 1 and side in OTHER:
                self.pairs[image].append(Pair("", None, False, 1.0, finding, OTHER[side]))

    def _add_labels(self) -> None:
        with (self.folder / "labels.csv").open() as stream:
            for row in csv.DictReader(stream):
                image = row["image"].rpartition(".")[0]
                self.patient[image], self.views[image] = row["patient"], row["view"]
                self.labels[image] = {LABELS.get(each, each) for each in row["nih_labels"].split("|")}
        self.counts = Counter((self.views[image], own == HEALTHY) for image, own in self.labels.items())
        for image in self.labels:
            self._label(image)

    def said(self, image: str, finding: str) -> tuple[bool, float]:
        """Return whether NIH's labels of an image have a finding, and the share of the weight that this gets.

        Images with "No Finding" get NORMAL, times the number of other images with that view, divided by their
        own number. Most of them are AP, so without this balance AP would speak against findings.
        """
        own, view = self.labels[image], self.views[image]
        if finding in own:
            return True, 1.0
        if own & WIDER.get(finding, set()):
            return True, LIKELY
        balance = self.counts[view, False] / max(self.counts[view, True], 1)
        return False, NORMAL * balance if own == HEALTHY else MISSING

    def _label(self, image: str) -> None:
        """Add the labels of an image as pairs."""
        known = {each.finding for each in self.pairs[image]}
        full = {each.category for each in self.absent} if image in self.exhaustive else set()
        for finding in sorted(CLASSES.keys() - known - full):
            present, share = self.said(image, finding)
            most = 0.25 if finding in UNLABELED else 0.7 if present else 0.6
            self.pairs[image].append(Pair("", None, present, most * share, finding))


def phantom_pairs(path: Path) -> dict[str, list[Pair]]:
    """Return the phrases of phantoms; negated, they are absent."""
    found: dict[str, list[Pair]] = defaultdict(list)
    for each in read(path, Phrase):
        found[each.image_id].append(Pair(each.text, main_box(each), True, 1.0, side=side_in(each.text)))
        if denied := negation.negate(each.text):
            found[each.image_id].append(Pair(denied, None, False, 0.5, side=side_in(each.text)))
    return found


def phrased(pair: Pair, flipped: bool, rng: random.Random) -> str:
    """Return the text of a pair, often in other words; with the other side for a flipped image."""
    side = OTHER.get(pair.side or "", pair.side) if flipped else pair.side
    if pair.finding is None:
        return (laterality.swap(pair.text) or pair.text) if flipped else pair.text
    if pair.text and side == pair.side and rng.random() < 0.5:
        return pair.text
    name = rng.choice(CLASSES[pair.finding])
    low = name[0].lower() + name[1:]
    if side == "both":
        return rng.choice((f"Bilateral {low}", f"{name} on both sides", f"{name} in both lungs"))
    if side not in OTHER:
        return name
    forms = (f"{side} {low}", f"{side} lung {low}", f"{name} in the {side} lung", f"{name} on the {side}")
    return rng.choice(forms)


def moved(box: Sequence[float], place: Sequence[float]) -> list[float] | None:
    """Return the box in a view, clipped; None if almost nothing of it is inside."""
    sx, tx, sy, ty = place
    x1, x2 = sorted((sx * box[0] + tx, sx * box[2] + tx))
    found = [min(max(each, 0.0), 1.0) for each in (x1, sy * box[1] + ty, x2, sy * box[3] + ty)]
    return found if found[2] - found[0] > 0.01 and found[3] - found[1] > 0.01 else None


def folds_of(nih: Nih, count: int) -> dict[str, int]:
    """Return the fold of each image: those of a patient together, patients with boxes spread evenly."""
    annotated = {nih.patient[each.image_id] for each in nih.phrases + nih.bare + nih.absent}
    numbers: dict[str, int] = {}
    for group in (annotated, set(nih.patient.values()) - annotated):
        patients = sorted(group)
        random.Random(0).shuffle(patients)
        numbers |= {patient: number % count for number, patient in enumerate(patients)}
    return {image: numbers[patient] for image, patient in nih.patient.items()}


def shares(found: Tensor) -> Tensor:
    """Return (B, M, P): the share of each cell that lies in each box."""
    edge = torch.arange(CELLS + 1) / CELLS
    across, down = (
        (torch.minimum(edge[1:], found[..., b, None]) - torch.maximum(edge[:-1], found[..., a, None])).clamp(
            min=0
        )
        for a, b in ((0, 2), (1, 3))
    )
    return (down[..., :, None] * across[..., None, :]).flatten(2) * CELLS**2


@dataclass
class Batch:
    """B images with M phrases each: features, masks, mean tokens, boxes, and what is known of each phrase."""

    features: Tensor
    visible: Tensor
    texts: list[list[str]]
    boxes: Tensor
    weights: Tensor
    boxed: Tensor
    present: Tensor
    known: Tensor


def stacked(items: list[tuple[Tensor, Tensor, list[Any]]]) -> Batch:
    """Return the batch of images with phrases; the places of missing phrases have no weight."""
    nothing = ("", None, None, 0.0)
    rows = [(phrases + [nothing] * MOST)[:MOST] for _, _, phrases in items]
    column = [list(zip(*row, strict=True)) for row in rows]
    known = torch.tensor(
        [[w if p is not None else 0.0 for p, w in zip(c[2], c[3], strict=True)] for c in column]
    )
    return Batch(
        torch.stack([each[0] for each in items]).float(),
        torch.stack([each[1] for each in items]),
        [list(c[0]) for c in column],
        torch.tensor([[box or [0.0, 0.0, 1.0, 1.0] for box in c[1]] for c in column]),
        torch.tensor([c[3] for c in column]),
        torch.tensor([[box is not None for box in c[1]] for c in column]),
        torch.tensor([[float(bool(each)) for each in c[2]] for c in column]),
        known,
    )


def main(path: Path) -> None:
    """Print an image record for each line of labels.csv."""
    with path.open() as stream:
        for row in csv.DictReader(stream):
            record = {"image_id": row["image"].rpartition(".")[0], "path": f"images/{row['image']}"}
            print(json.dumps(record | {"subject_id": row["patient"]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
