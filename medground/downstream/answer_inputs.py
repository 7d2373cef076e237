"""Questions as input of a grounding network, and the joint features of question and image.

Each distinct image and text of a batch is encoded once. If the image encoder is frozen, its feature maps are
kept up to a limit, so that it runs once for each image. If the whole network is frozen, the patches are kept.

Letters: B distinct images, U distinct texts, S side of the square, T tokens, N questions, P patches, E joint
feature.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from medground.data.feature_maps import FeatureMaps
from medground.data.image_store import ImageStore
from medground.models import encoders, layers
from medground.models.grounder import Grounder
from medground.models.network import Network
from medground.records import Question

log = logging.getLogger(__name__)
BLANK = ""  # the path of the blank image
Progress = Callable[[Iterable[int], str, int], Iterable[int]]  # of items, with a label and their number
MOST_KEPT = 2 << 30  # bytes of feature maps or patches
FUSION, VISUAL, ATTENTION, ENCODER = LAYERS = ("fusion", "visual", "attention", "encoder")  # --layer
ATTENDED = (ATTENTION, ENCODER)  # the head attends to all patches
MAPS, PATCHES = "maps", "patches"


class Batch(NamedTuple):
    """N questions: paths of B images, (U, T) ids and mask of the texts, (N,) rows of images and of texts."""

    paths: list[str]
    ids: Tensor
    mask: Tensor
    image_of: Tensor
    text_of: Tensor


class Encoded(NamedTuple):
    """N questions: (N, P, D) patches, (N, P) True if visible, (N, T, D) tokens and their (N, T) mask."""

    patches: Tensor
    visible: Tensor
    tokens: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Inputs:
    """The parts that turn questions into features.

    images: pictures, or the feature maps of the model's frozen image encoder. text_tokens: longer texts are
    cut. blank: every question gets an image without content. layer: `features` returns the fused token of the
    architecture, or the means of patches and tokens. With "encoder" the patches are those of the image
    encoder's feature map, without the layers after it. keep: what is kept of each image, because the part of
    the network before it is frozen: its feature maps, its patches, or nothing.
    """

    model: Grounder
    images: ImageStore | FeatureMaps
    text_tokens: int
    blank: bool = False
    layer: str = FUSION
    keep: str | None = None
    _kept: dict[str, Tensor] = field(default_factory=dict)

    def batch(self, questions: Sequence[Question]) -> Batch:
        """Return the questions as a batch."""
        paths = [BLANK if self.blank else each.path for each in questions]
        texts = [each.text for each in questions]
        (images, image_of), (distinct, text_of) = _distinct(paths), _distinct(texts)
        ids, mask = encoders.tokenize(self.model.tokenizer, distinct, self.text_tokens)
        return Batch(images, ids, mask, torch.tensor(image_of), torch.tensor(text_of))

    def encoded(self, batch: Batch) -> Encoded:
        """Return the encoded images and texts of the questions."""
        patches, visible = self._patches(batch.paths)
        ids, mask, image_of, text_of = (each.to(self.model.device) for each in batch[1:])
        tokens = self.model.network.encode_texts(ids, mask)
        found = layers.rows(patches, image_of), visible[image_of], layers.rows(tokens, text_of)
        return Encoded(*found, mask[text_of])

    def features(self, batch: Batch) -> Tensor:
        """Return the (N, E) joint features of the questions and their images."""
        encoded, network = self.encoded(batch), self.model.network
        return network.joint(*encoded) if self.layer == FUSION else Network.joint(network, *encoded)

    def visual_tokens(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the (N, P, D) patches of the questions' images and (N, P), True if ignored."""
        patches, visible = self._patches(batch.paths)
        image_of = batch.image_of.to(self.model.device)
        width = self.model.config.width  # text-query appends positions
        return layers.rows(patches[..., :width], image_of), ~visible[image_of]

    def _patches(self, paths: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return (B, P, D) patches of these images and their (B, P) mask."""
        if self.keep != PATCHES:
            return self._encoded(paths)

        def computed(own: Sequence[str]) -> Tensor:
            patches, visible = self._encoded(own)
            return torch.cat([patches, visible[..., None].to(patches.dtype)], dim=2)

        rows = self._remembered(paths, computed)
        return rows[..., :-1], rows[..., -1] > 0

    def _encoded(self, paths: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return what `_patches` does, from pictures or maps."""
        network = self.model.network
        planes = torch.stack([self._picture(path) for path in paths]).to(self.model.device)
        images, inside = planes[:, :-1], planes[:, -1:]
        if not isinstance(self.images, FeatureMaps):
            pixels = dict(zip(paths, zip(images, inside, strict=True), strict=True))

            def computed(own: Sequence[str]) -> Tensor:
                each, within = zip(*(pixels[path] for path in own), strict=True)
                return network.maps(torch.stack(each), torch.stack(within))

            images = self._remembered(paths, computed) if self.keep == MAPS else computed(paths)
        if self.layer == ENCODER:
            visible = network.visible(inside, *images.shape[-2:]).flatten(1)
            return images.flatten(2).transpose(1, 2), visible
        found = network.encode_maps(images, inside)
        return found.patches, found.visible

    def _remembered(self, paths: Sequence[str], computed: Callable[[Sequence[str]], Tensor]) -> Tensor:
        """Return a row for each of these images; `computed` returns those that are not kept.

        Each is computed by itself. The rounding of a batch depends on its other images, and a continued
        training begins with other batches.
        """
        with torch.no_grad():
            found = {path: computed([path])[0] for path in paths if path not in self._kept}
        for path, row in found.items():
            if len(self._kept) < MOST_KEPT // (row.numel() * row.element_size()):
                self._kept[path] = row
        return torch.stack([found[path] if path in found else self._kept[path] for path in paths])

    def _picture(self, path: str) -> Tensor:
        """Return the (C + 1, h, w) image or map, and its inside; a blank image is black everywhere."""
        if path != BLANK:
            return self.images.get(path).picture()
        size = self.images.size
        blank = torch.stack([torch.zeros(size, size), torch.ones(size, size)])
        if not isinstance(self.images, FeatureMaps):
            return blank
        network, (height, width) = self.model.network, self.images.shape[1:]
        both = blank[:, None, None].to(self.model.device)
        with torch.no_grad():
            maps = network.maps(both[0], both[1])[0]
        return torch.cat([maps, network.visible(both[1], height, width).to(maps.dtype)])


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
