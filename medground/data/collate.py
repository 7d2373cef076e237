"""The batch of any step, made from the step's number alone: a resumed run sees what an undisturbed one did.

Letters: B images, S side of the square, U distinct texts, T tokens, N (image, phrase) pairs, M boxes of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medground.data import augment, report_targets
from medground.data.examples import Example
from medground.data.image_store import ImageStore
from medground.models.letterboxed import LetterboxedImage
from medground.objectives.report_batch import ReportBatch
from medground.records import Box

Asked = tuple[Example, list[tuple[str, tuple[Box, ...]]]]


@dataclass(frozen=True)
class Batch:
    """Pictures (B, 2, S, S): film in [0, 1] and where film is; ids and mask (U, T); the rows of N pairs
    image_of and text_of (N,); boxes (M, 4) normalised cxcywh, and the pair of each, box_of (M,); what reports
    say, None where no objective reads them."""

    pictures: Tensor
    ids: Tensor
    mask: Tensor
    image_of: Tensor
    text_of: Tensor
    boxes: Tensor
    box_of: Tensor
    reports: ReportBatch | None = None

    def inputs(self) -> tuple[Tensor, ...]:
        """What a network's forward takes, in its order."""
        film, inside = self.pictures[:, :1], self.pictures[:, 1:]
        return film, inside, self.ids, self.mask, self.image_of, self.text_of

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device; a pinned one is copied while other work goes on."""
        return each_tensor(self, lambda part: part.to(device, non_blocking=True))

    def pinned(self) -> "Batch":
        """The batch in memory that a GPU can read by itself."""
        return each_tensor(self, lambda part: part.pin_memory())


def each_tensor(part: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return a tensor, or a record of tensors, with `change` applied to each of them; None stays None."""
    if is_dataclass(part):
        changed = {each.name: each_tensor(getattr(part, each.name), change) for each in fields(part)}
        return replace(part, **changed)  # type: ignore[type-var]
    return None if part is None else change(part)


@dataclass(frozen=True)
class Plan:
    """How batches are drawn: images a step, the most terms and sentences asked of each, and the views.

    With probability `negatives` a query that has denials is asked with one of them too. `mirror`: the share
    of views that are mirrored while their words stay. `always`: texts that stand beside those of the
    images' reports in every batch; None where no report is read.
    """

    images: int = 16
    terms: int = 4
    sentences: int = 4
    seed: int = 0
    views: str = "mild"  # one of augment.KINDS
    mirror: float = 0.0
    negatives: float = 0.0
    always: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Batches:
    """Batches of the examples by step number, the same for the same plan.

    `beside` adds further images to each step, drawn from examples of their own by a plan of their own.
    """

    examples: Sequence[Example]
    store: ImageStore
    tokenize: Callable[[list[str]], tuple[Tensor, Tensor]]
    plan: Plan
    beside: "Batches | None" = None

    def at(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """The part of this step's batch that process `rank` of `world` works on.

        Epochs follow one another, each in an order of its own. What is drawn for an image depends on its
        place in that order alone, so that any number of processes draws the same.
        """
        asked, rngs = self._drawn(step, rank, world)
        if self.beside:
            more, theirs = self.beside._drawn(step, rank, world)
            asked, rngs = asked + more, rngs + theirs
        return self._on_views(collate(asked, self.store, self.tokenize, self.plan.always), rngs)

    def _on_views(self, batch: Batch, rngs: Sequence[np.random.Generator]) -> Batch:
        """The batch with new views of its images, and all its boxes where they then lie."""
        own, boxes, images, reports = (
            len(batch.boxes),
            batch.boxes,
            batch.image_of[batch.box_of],
            batch.reports,
        )
        if reports is not None:
            more, theirs = reports.boxes()
            boxes, images = torch.cat([boxes, more]), torch.cat([images, theirs])
        pictures, boxes, there = augment.draw(
            self.plan.views, batch.pictures, boxes, images, rngs, self.plan.mirror
        )
        if reports is not None:
            reports = reports.on_views(boxes[own:], there[own:])
        boxes, there = boxes[:own][there[:own]], there[:own]
        return replace(batch, pictures=pictures, boxes=boxes, box_of=batch.box_of[there], reports=reports)

    def _drawn(self, step: int, rank: int, world: int) -> tuple[list[Asked], list[np.random.Generator]]:
        """What is asked of each image, and the image's own random numbers."""
        places = range(step * self.plan.images + rank, (step + 1) * self.plan.images, world)
        rngs = [np.random.default_rng([self.plan.seed, 1, place]) for place in places]
        asked = [self._ask(example, rng) for example, rng in zip(self._in_order(places), rngs, strict=True)]
        return asked, rngs

    def _in_order(self, places: range) -> list[Example]:
        count = len(self.examples)
        orders = {
            epoch: np.random.default_rng([self.plan.seed, 0, epoch]).permutation(count)
            for epoch in {place // count for place in places}
        }
        return [self.examples[orders[place // count][place % count]] for place in places]

    def _ask(self, example: Example, rng: np.random.Generator) -> Asked:
        drawn: list[tuple[str, tuple[Box, ...]]] = []
        for pool, most in ((example.terms, self.plan.terms), (example.sentences, self.plan.sentences)):
            for n in rng.permutation(len(pool))[:most]:
                texts, denials = pool[n].texts, pool[n].denials
                drawn.append((texts[rng.integers(len(texts))], pool[n].boxes))
                if denials and rng.random() < self.plan.negatives:
                    drawn.append((denials[rng.integers(len(denials))], ()))
        return example, drawn


def shown(example: Example, store: ImageStore) -> LetterboxedImage:
    """The film of an example, boxes in its record's pixels; raises MedgroundError where the file cannot be
    read, or is of another shape than the record says."""
    film, whose = store.get(example.path), f"the record of image {example.image_id}"
    return film.sized(example.width, example.height, example.path, whose)


def collate(
    asked: Sequence[Asked],
    store: ImageStore,
    tokenize: Callable[[list[str]], tuple[Tensor, Tensor]],
    always: Sequence[str] | None = None,
) -> Batch:
    """One Batch of these images and (text, boxes) queries; each distinct text stands in it once.

    Unless `always` is None the images' reports are in it too, and these texts beside them.
    """
    pictures, boxes, letterboxes = [], [], []
    texts: list[str] = []
    image_of: list[int] = []
    box_of: list[int] = []
    for row, (example, queries) in enumerate(asked):
        film = shown(example, store)
        pictures.append(film.picture())
        letterboxes.append(film.letterbox)
        for text, own in queries:
            boxes.append(film.letterbox.normalise(np.array(own, dtype=float).reshape(-1, 4)))
            box_of += [len(texts)] * len(own)
            texts.append(text)
            image_of.append(row)
    examples = [example for example, _ in asked]
    read = [] if always is None else [*report_targets.texts_of(examples), *always]
    rows = {text: n for n, text in enumerate(dict.fromkeys([*texts, *read]) or [""])}
    ids, mask = tokenize(list(rows))
    return Batch(
        pictures=torch.stack(pictures),
        ids=ids,
        mask=mask,
        image_of=torch.tensor(image_of, dtype=torch.long),
        text_of=torch.tensor([rows[text] for text in texts], dtype=torch.long),
        boxes=torch.from_numpy(np.concatenate([*boxes, np.zeros((0, 4))])).float(),
        box_of=torch.tensor(box_of, dtype=torch.long),
        reports=None if always is None else report_targets.tell(examples, letterboxes, rows, always),
    )
