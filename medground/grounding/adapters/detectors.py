"""Detectors that take a phrase: Grounding DINO, and OWL-ViT with one query per phrase.

Boxes and scores are those of transformers' post-processing. It keeps overlapping boxes; here, a box that
overlaps a better one is left out.
"""

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from medground import boxes
from medground.grounding.adapters import sources
from medground.grounding.adapters.model import THINNEST, Found
from medground.grounding.adapters.sources import Source
from medground.records import Box

MOST = 20  # boxes of a phrase
SAME_BOX_IOU = 0.5


class GroundingDino:
    """Grounding DINO: the image and each phrase are fused, so each phrase is a forward pass."""

    def __init__(self, source: Source):
        self.source, library = source, sources.transformers()
        self.network = source.network(library.AutoModelForZeroShotObjectDetection)
        self.processor = source.load(library.AutoProcessor)
        self.device = source.device

    @torch.inference_mode()
    def find(self, image: Image.Image, phrases: list[str]) -> list[Found]:
        """Return the boxes of each phrase; the model expects lower case and a full stop."""
        texts = [f"{self.source.prompt_of(each).lower().rstrip('. ')}." for each in phrases]
        words = self.processor.tokenizer(
            texts, padding=True, truncation=True, max_length=self._most_tokens(), return_tensors="pt"
        )
        pixels = self.processor.image_processor(images=image, return_tensors="pt")
        seen = {
            key: value.expand(len(texts), *value.shape[1:]).to(self.device) for key, value in pixels.items()
        }
        outputs = self.network(**seen, **words.to(self.device))
        each = self.processor.post_process_grounded_object_detection(
            outputs,
            words["input_ids"],
            threshold=0.0,
            text_threshold=1.0,
            target_sizes=[(image.height, image.width)] * len(texts),
        )
        lengths = [len(ids) for ids in self.processor.tokenizer(texts)["input_ids"]]
        return [
            Found(_best(one, image), cut=length > self._most_tokens())
            for one, length in zip(each, lengths, strict=True)
        ]

    def _most_tokens(self) -> int:
        return int(self.network.config.max_text_len if hasattr(self.network.config, "max_text_len") else 256)


class Owl:
    """OWL-ViT and OWLv2: the image is encoded once, and each phrase is a query."""

    def __init__(self, source: Source):
        self.source, library = source, sources.transformers()
        self.network = source.network(library.AutoModelForZeroShotObjectDetection)
        self.processor = source.load(library.AutoProcessor)
        self.device = source.device
        self.most_tokens = int(self.network.config.text_config.max_position_embeddings)

    @torch.inference_mode()
    def find(self, image: Image.Image, phrases: list[str]) -> list[Found]:
        """Return the boxes of each phrase."""
        phrases = [self.source.prompt_of(each) for each in phrases]
        words = self.processor.tokenizer(
            phrases, padding="max_length", truncation=True, max_length=self.most_tokens, return_tensors="pt"
        )
        pixels = self.processor.image_processor(images=image, return_tensors="pt")
        outputs = self.network(**words.to(self.device), **pixels.to(self.device))
        lengths = [len(ids) for ids in self.processor.tokenizer(phrases)["input_ids"]]
        return [
            Found(_best(self._of_query(outputs, number, image), image), cut=length > self.most_tokens)
            for number, length in enumerate(lengths)
        ]

    def _of_query(self, outputs: Any, number: int, image: Image.Image) -> dict[str, Tensor]:
        one = type(outputs)(logits=outputs.logits[..., number : number + 1], pred_boxes=outputs.pred_boxes)
        sizes = [(image.height, image.width)]
        found: list[dict[str, Tensor]] = self.processor.post_process_grounded_object_detection(
            one, threshold=0.0, target_sizes=sizes
        )
        return found[0]


def _best(found: dict[str, Tensor], image: Image.Image) -> list[tuple[Box, float]]:
    """Return the best boxes with their scores, clipped, without those that overlap a better one."""
    order = found["scores"].float().argsort(descending=True)
    corners = found["boxes"].float()[order].cpu().numpy().astype(np.float64)
    corners = corners.clip(0, [image.width, image.height] * 2)
    scores, kept = found["scores"].float()[order].cpu().numpy(), list[int]()
    sides = corners[:, 2:] - corners[:, :2]
    for number in np.flatnonzero((sides >= THINNEST).all(1))[: 10 * MOST].tolist():
        alike = boxes.iou(corners[[number]], corners[kept])
        if len(kept) < MOST and not (alike >= SAME_BOX_IOU).any():
            kept.append(number)
    return [((x1, y1, x2, y2), float(scores[n])) for n in kept for x1, y1, x2, y2 in [corners[n].tolist()]]
