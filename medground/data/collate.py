"""The batch of each step, which depends only on the step number, so a resumed run gets the same batches.

Letters: B images, S side of the square, U distinct texts, T tokens, N (image, phrase) pairs, M boxes of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medground.data import augment, report_targets
from medground.data.augment import Views
from medground.data.examples import Example
from medground.data.feature_maps import FeatureMaps, MappedImage
from medground.data.image_store import ImageStore
from medground.models.letterboxed import LetterboxedImage
from medground.objectives.report_batch import ReportBatch, find
from medground.records import Box

Queried = tuple[Example, list[tuple[str, tuple[Box, ...]]]]


@dataclass(frozen=True)
class Batch:
    """A batch.

    pictures: (B, 2, S, S), images in [0, 1] and their masks, 0 on padding; or (B, C + 1, h, w), the same of
    feature maps; or (B, S, S) bytes, of which `views` makes the images. ids, mask: (U, T) of the texts.
    image_of, text_of: (N,) the rows of each pair. boxes: (M, 4) normalized [cx, cy, w, h]. box_of: (M,) the
    pair of each box. reports: None if no objective uses reports. boxed: (K,) the sorted pairs with a box.
    """

    pictures: Tensor
    ids: Tensor
    mask: Tensor
    image_of: Tensor
    text_of: Tensor
    boxes: Tensor
    box_of: Tensor
    reports: ReportBatch | None = None
    boxed: Tensor | None = None
    views: Views | None = None

    def inputs(self) -> tuple[Tensor, ...]:
        """Return the arguments of a network's forward."""
        pixels, inside = self.pictures[:, :-1], self.pictures[:, -1:]
        return pixels, inside, self.ids, self.mask, self.image_of, self.text_of

    def viewed(self) -> "Batch":
        """Return the batch with its images made from bytes."""
        return (
            self if self.views is None else replace(self, pictures=self.views.of(self.pictures), views=None)
        )

    def pinned(self) -> "Batch":
        """Return the batch in pinned memory."""
        result: Batch = each_tensor(self, lambda part: part.pin_memory())
        return result


def each_tensor(part: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return a tensor, or a dataclass of tensors, with `change` applied to each; other values stay."""
    if is_dataclass(part):
        changed = {each.name: each_tensor(getattr(part, each.name), change) for each in fields(part)}
        return replace(part, **changed)  # type: ignore[type-var]
    return change(part) if isinstance(part, Tensor) else part


def to_device(batch: Any, device: torch.device) -> Any:
    """Return a record of tensors on a device, which makes the images of a `Batch`.

    A pinned record is copied asynchronously.
    """
    there = each_tensor(batch, lambda part: part.to(device, non_blocking=True))
    return there.viewed() if isinstance(there, Batch) else there


@dataclass(frozen=True)
class Plan:
    """The composition of batches: images per step, most terms and sentences per image, augmentation.

    negatives: probability of adding one negative text of a query that has some. flip_prob: probability of a
    left-right flip. always: texts added to those of the reports in every batch; None if no report is used.
    on_device: batches have bytes and `views`, of which their device makes the images; strong views excepted.
    """

    images: int = 16
    terms: int = 4
    sentences: int = 4
    seed: int = 0
    views: str = "mild"  # one of augment.KINDS
    flip_prob: float = 0.0
    negatives: float = 0.0
    always: tuple[str, ...] | None = None
    on_device: bool = False


@dataclass(frozen=True)
class Batches:
    """The batches of examples by step number, the same for the same plan.

    replay: further batches whose images are added to each step, such as replayed pre-training pairs.
    """

    examples: Sequence[Example]
    store: ImageStore | FeatureMaps
    tokenize: Callable[[list[str]], tuple[Tensor, Tensor]]
    plan: Plan
    replay: "Batches | None" = None

    def at(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """Return the part of this step's batch for process `rank` of `world`.

        Each epoch has its own order. Random choices for an image depend only on its place in that order, so
        the number of processes has no effect.
        """
        queried, rngs = self._sampled(step, rank, world)
        if self.replay:
            more, theirs = self.replay._sampled(step, rank, world)
            queried, rngs = queried + more, rngs + theirs
        return self._on_views(collate(queried, self.store, self.tokenize, self.plan.always), rngs)

    def _on_views(self, batch: Batch, rngs: Sequence[np.random.Generator]) -> Batch:
        """Return the batch with augmented images and boxes."""
        own, boxes, images, reports = (
            len(batch.boxes),
            batch.boxes,
            batch.image_of[batch.box_of],
            batch.reports,
        )
        if reports is not None:
            more, theirs = reports.boxes()
            boxes, images = torch.cat([boxes, more]), torch.cat([images, theirs])
        batch, boxes, there = self._augmented(batch, boxes, images, rngs)
        if reports is not None:
            reports = reports.on_views(boxes[own:], there[own:])
            reports = replace(reports, indices=find(reports, batch.mask))
        boxes, box_of = boxes[:own][there[:own]], batch.box_of[there[:own]]
        return replace(batch, boxes=boxes, box_of=box_of, reports=reports, boxed=box_of.unique())

    def _augmented(
        self, batch: Batch, boxes: Tensor, image_of: Tensor, rngs: Sequence[np.random.Generator]
    ) -> tuple[Batch, Tensor, Tensor]:
        """Return the batch with augmented images, all boxes on them, and which boxes are inside."""
        plan, there = self.plan, torch.ones(len(boxes), dtype=torch.bool)
        if batch.views is None:  # of feature maps, which stay as they are
            return batch, boxes, there
        side = batch.pictures.shape[-1]
        drawn = (batch.views, side, boxes, image_of, rngs, plan.flip_prob, plan.on_device)
        views, boxes, there = augment.draw(plan.views, *drawn)
        batch = replace(batch, views=views)
        if plan.views == "strong":
            pictures, boxes, there = augment.strong(batch.viewed().pictures, boxes, image_of, rngs)
            return replace(batch, pictures=pictures, views=None), boxes, there
        return batch if plan.on_device else batch.viewed(), boxes, there

    def _sampled(self, step: int, rank: int, world: int) -> tuple[list[Queried], list[np.random.Generator]]:
        """Return the queries of each image, and the generator of each image."""
        places = range(step * self.plan.images + rank, (step + 1) * self.plan.images, world)
        rngs = [np.random.default_rng([self.plan.seed, 1, place]) for place in places]
        queried = [
            self._sample(example, rng) for example, rng in zip(self._in_order(places), rngs, strict=True)
        ]
        return queried, rngs

    def _in_order(self, places: range) -> list[Example]:
        count = len(self.examples)
        orders = {
            epoch: np.random.default_rng([self.plan.seed, 0, epoch]).permutation(count)
            for epoch in {place // count for place in places}
        }
        return [self.examples[orders[place // count][place % count]] for place in places]

    def _sample(self, example: Example, rng: np.random.Generator) -> Queried:
        sampled: list[tuple[str, tuple[Box, ...]]] = []
        for pool, most in ((example.terms, self.plan.terms), (example.sentences, self.plan.sentences)):
            for n in rng.permutation(len(pool))[:most]:
                texts, denials = pool[n].texts, pool[n].denials
                sampled.append((texts[rng.integers(len(texts))], pool[n].boxes))
                if denials and rng.random() < self.plan.negatives:
                    sampled.append((denials[rng.integers(len(denials))], ()))
        return example, sampled


def load(example: Example, store: ImageStore | FeatureMaps) -> LetterboxedImage | MappedImage:
    """Return the image of an example, with boxes in pixels of its record.

    Raises MedgroundError if the file is unreadable or differs from the record in its aspect ratio.
    """
    image, whose = store.get(example.path), "its record"
    return image.sized(example.width, example.height, example.path, whose)


def collate(
    queried: Sequence[Queried],
    store: ImageStore | FeatureMaps,
    tokenize: Callable[[list[str]], tuple[Tensor, Tensor]],
    always: Sequence[str] | None = None,
) -> Batch:
    """Return a batch of these images with their (text, boxes) queries; each distinct text occurs once.

    Unless `always` is None, the reports of the images and these texts are included.
    """
    images, boxes = [], []
    texts: list[str] = []
    image_of: list[int] = []
    box_of: list[int] = []
    for row, (example, queries) in enumerate(queried):
        image = load(example, store)
        images.append(image)
        for text, own in queries:
            boxes.append(image.letterbox.normalise(np.array(own, dtype=float).reshape(-1, 4)))
            box_of += [len(texts)] * len(own)
            texts.append(text)
            image_of.append(row)
    examples = [example for example, _ in queried]
    extra = [] if always is None else [*report_targets.texts_of(examples), *always]
    rows = {text: n for n, text in enumerate(dict.fromkeys([*texts, *extra]) or [""])}
    ids, mask = tokenize(list(rows))
    letterboxes = [each.letterbox for each in images]
    pictures, views = _pictures(images)
    return Batch(
        pictures=pictures,
        ids=ids,
        mask=mask,
        image_of=torch.tensor(image_of, dtype=torch.long),
        text_of=torch.tensor([rows[text] for text in texts], dtype=torch.long),
        boxes=torch.from_numpy(np.concatenate([*boxes, np.zeros((0, 4))])).float(),
        box_of=torch.tensor(box_of, dtype=torch.long),
        reports=None if always is None else report_targets.collate(examples, letterboxes, rows, always),
        views=views,
    )


def _pictures(images: Sequence[LetterboxedImage | MappedImage]) -> tuple[Tensor, Views | None]:
    """Return the bytes of images and their unchanged views, or feature maps without any."""
    own = [each for each in images if isinstance(each, LetterboxedImage)]
    if len(own) < len(images):  # feature maps
        return torch.stack([each.picture() for each in images]), None
    squares = torch.from_numpy(np.stack([each.square for each in own]))
    return squares, Views(torch.tensor([each.inner for each in own]))
