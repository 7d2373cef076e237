"""Questions as input of a grounding network, and the joint features of question and image.

Each distinct image and text of a batch is encoded once. If the image encoder is frozen, its feature maps are
kept up to a limit, so that it runs once for each image.

Letters: B distinct images, U distinct texts, S side of the square, T tokens, N questions, P patches, E joint
feature.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from medground.data.image_store import ImageStore
from medground.models import encoders, layers
from medground.models.grounder import Grounder
from medground.models.network import Network
from medground.records import Question

log = logging.getLogger(__name__)
BLANK = ""  # the path of the blank image
Progress = Callable[[Iterable[int], str, int], Iterable[int]]  # of items, with a label and their number
MOST_KEPT = 2 << 30  # bytes of feature maps


class Batch(NamedTuple):
    """N questions: paths of B images, (U, T) ids and mask of the texts, (N,) rows of images and of texts."""

    paths: list[str]
    ids: Tensor
    mask: Tensor
    image_of: Tensor
    text_of: Tensor


@dataclass(frozen=True)
class Inputs:
    """The parts that turn questions into features.

    text_tokens: longer texts are cut. blank: every question gets an image without content. fused: use the
    fused token of the architecture, not means of patches and tokens. keep: the image side is frozen, so
    encoded images are kept.
    """

    model: Grounder
    images: ImageStore
    text_tokens: int
    blank: bool = False
    fused: bool = True
    keep: bool = False
    _kept: dict[str, Tensor] = field(default_factory=dict)

    def batch(self, questions: Sequence[Question]) -> Batch:
        """Return the questions as a batch."""
        paths = [BLANK if self.blank else each.path for each in questions]
        texts = [each.text for each in questions]
        (images, image_of), (distinct, text_of) = _distinct(paths), _distinct(texts)
        ids, mask = encoders.tokenize(self.model.tokenizer, distinct, self.text_tokens)
        return Batch(images, ids, mask, torch.tensor(image_of), torch.tensor(text_of))

    def features(self, batch: Batch) -> Tensor:
        """Return the (N, E) joint features of the questions and their images."""
        network, device = self.model.network, self.model.device
        patches, visible = self._encoded(batch.paths)
        ids, mask, image_of, text_of = (each.to(device) for each in batch[1:])
        tokens = network.encode_texts(ids, mask)
        patches, tokens = layers.rows(patches, image_of), layers.rows(tokens, text_of)
        if self.fused:
            return network.joint(patches, visible[image_of], tokens, mask[text_of])
        return Network.joint(network, patches, visible[image_of], tokens, mask[text_of])

    def visual_tokens(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the (N, P, D) patches of the questions' images and (N, P), True if ignored."""
        patches, visible = self._encoded(batch.paths)
        image_of = batch.image_of.to(self.model.device)
        width = self.model.config.width  # text-query appends positions
        return layers.rows(patches[..., :width], image_of), ~visible[image_of]

    def _encoded(self, paths: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return (B, P, D) patches of these images and their (B, P) mask."""
        network = self.model.network
        planes = torch.stack([self._picture(path) for path in paths]).to(self.model.device)
        images, inside = planes[:, :1], planes[:, 1:]
        found = network.encode_maps(self._maps(paths, images, inside), inside)
        return found.patches, found.visible

    def _maps(self, paths: Sequence[str], images: Tensor, inside: Tensor) -> Tensor:
        """Return the (B, C, h, w) feature maps, which are kept if the image encoder does not change."""
        network = self.model.network
        if not self.keep:
            return network.maps(images, inside)
        missing = [n for n, path in enumerate(paths) if path not in self._kept]
        found: dict[str, Tensor] = {}
        if missing:
            with torch.no_grad():
                maps = network.maps(images[missing], inside[missing])
            found = {paths[n]: each for n, each in zip(missing, maps, strict=True)}
            room = MOST_KEPT // (maps[0].numel() * maps.element_size()) - len(self._kept)
            self._kept.update(list(found.items())[: max(0, room)])
        return torch.stack([found[path] if path in found else self._kept[path] for path in paths])

    def _picture(self, path: str) -> Tensor:
        """Return the (2, S, S) image and its inside; a blank one is black everywhere."""
        if path == BLANK:
            size = self.images.size
            return torch.stack([torch.zeros(size, size), torch.ones(size, size)])
        return self.images.get(path).picture()


def _distinct(items: Iterable[str]) -> tuple[list[str], list[int]]:
    """Return the distinct items in the order of their first place, and the place of each item among them."""
    places: dict[str, int] = {}
    rows = [places.setdefault(each, len(places)) for each in items]
    return list(places), rows


def warn_of_long(model: Grounder, questions: Iterable[Question], limit: int) -> None:
    """Warn of the number of questions that have more tokens than the limit."""
    texts = [each.text for each in questions]
    longest = {text: len(model.tokenizer(text)["input_ids"]) for text in dict.fromkeys(texts)}
    if count := sum(longest[text] > limit for text in texts):
        log.warning("%d of %d questions are longer than %d tokens and are cut", count, len(texts), limit)
