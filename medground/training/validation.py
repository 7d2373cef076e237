"""The figures of validation: mean IoU of a grounder over phrases, and of a detector over regions."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from medground.anatomy.image_set import ImageSet
from medground.boxes import iou, paired_iou, union
from medground.data import collate
from medground.data.examples import Example
from medground.data.image_store import ImageStore
from medground.models import grounder
from medground.models.network import best_boxes


def with_boxes(examples: Sequence[Example]) -> list[Example]:
    """Return the examples that have a phrase with a box: those that a validation can measure."""
    return [each for each in examples if any(query.boxes for query in each.sentences)]


def over_phrases(
    examples: Sequence[Example], store: ImageStore, model: grounder.Grounder, together: int = 32
) -> Callable[[nn.Module], float]:
    """Return a function that computes the mean IoU of a network's best boxes, in pixels of the images.

    The truth is the box around all boxes of a phrase. For a network that predicts several boxes, it is the
    annotated box with the highest IoU. `together` images are one batch.
    """
    several = model.network.most_boxes > 1
    wanted = [(each, [q for q in each.sentences if q.boxes]) for each in with_boxes(examples)]

    def mean_iou(network: nn.Module) -> float:
        ious: list[float] = []
        device = next(network.parameters()).device
        for first in range(0, len(wanted), together):
            some = wanted[first : first + together]
            queries = [(each, [(q.texts[0], q.boxes) for q in own]) for each, own in some]
            batch = collate.to_device(collate.collate(queries, store, model.tokenize), device)
            found = best_boxes(network(*batch.inputs())).double().cpu().numpy()
            letterboxes = [collate.load(each, store).letterbox for each, own in some for _ in own]
            pixels = [b.restore(row[None])[0] for b, row in zip(letterboxes, found, strict=True)]
            annotated = [list(q.boxes) for _, own in some for q in own]
            truth = [np.array(each if several else [union(each)], dtype=np.float64) for each in annotated]
            ious += [iou(box[None], each).max() for box, each in zip(pixels, truth, strict=True)]
        return float(np.mean(ious))

    return torch.inference_mode()(mean_iou)


def over_regions(boxes: NDArray[np.float32], images: ImageSet) -> float:
    """Return the mean IoU of (N, Q, 4) boxes with all regions that are present; 0 if there are none."""
    present = images.present == 1
    overlap = paired_iou(boxes[present].astype(float), images.boxes[present].astype(float))
    return float(overlap.mean()) if len(overlap) else 0.0
