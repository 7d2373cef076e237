"""Image-text models without boxes, such as CLIP: a heat map over the image, and the box around its peak.

The map is the cosine similarity of the phrase and each patch, both projected into the shared space, as
BioViL makes it. The box is that of the connected cells around the peak whose similarity is above the middle
of the map's range. Its score is the highest similarity, brought from [-1, 1] to [0, 1].
Letters: P patches, T texts, D width, R x C grid of patches.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from medground import hot_cells
from medground.answers import frames
from medground.errors import MedgroundError
from medground.grounding.adapters import sources
from medground.grounding.adapters.model import Found
from medground.grounding.adapters.sources import Source
from medground.records import Box


class Similarity:
    """CLIP, or a vision-text dual encoder, whose image encoder has patches."""

    def __init__(self, source: Source):
        self.source, library = source, sources.transformers()
        self.network, self.device = source.network(library.AutoModel), source.device
        self.tokenizer = source.load(library.AutoTokenizer)
        self.images = source.load(library.AutoImageProcessor)
        self.most_tokens = int(self.network.config.text_config.max_position_embeddings)
        self.frame = "crop" if getattr(self.images, "do_center_crop", False) else "normalised"

    @torch.inference_mode()
    def find(self, image: Image.Image, phrases: list[str]) -> list[Found]:
        """Return one box for each phrase."""
        phrases = [self.source.prompt_of(each) for each in phrases]
        maps = self.maps(image, phrases)
        lengths = [len(ids) for ids in self.tokenizer(phrases)["input_ids"]]
        return [
            Found([self._box(one, image)], cut=length > self.most_tokens)
            for one, length in zip(maps.cpu().numpy(), lengths, strict=True)
        ]

    def maps(self, image: Image.Image, phrases: list[str]) -> Tensor:
        """Return (T, R, C) cosine similarities of each phrase and each cell of the image."""
        words = self.tokenizer(
            phrases, padding=True, truncation=True, max_length=self.most_tokens, return_tensors="pt"
        )
        pixels = self.images(images=image, return_tensors="pt")["pixel_values"]
        cells = self._cells(pixels.to(self.device, self.network.dtype))
        texts = self.network.get_text_features(**words.to(self.device))
        texts = getattr(texts, "pooler_output", texts)
        cells, texts = (torch.nn.functional.normalize(each.float(), dim=-1) for each in (cells, texts))
        return torch.einsum("rcd,td->trc", cells, texts)

    def _cells(self, pixels: Tensor) -> Tensor:
        """Return (R, C, D) features of the cells in the shared space."""
        vision = self.network.vision_model
        [features] = vision(pixel_values=pixels).last_hidden_state
        side = int(len(features) ** 0.5)  # tokens before the patches are those of the whole image
        if hasattr(vision, "post_layernorm"):
            features = vision.post_layernorm(features)
        projected: Tensor = self.network.visual_projection(features[-side * side :])
        cells: Tensor = projected.unflatten(0, (side, side))
        return cells

    def _box(self, similarity: NDArray[np.float32], image: Image.Image) -> tuple[Box, float]:
        corners, peak = around_peak(similarity)
        return frames.to_original(self.frame, corners, image.width, image.height), (peak + 1) / 2


def around_peak(similarity: NDArray[np.float32]) -> tuple[Box, float]:
    """Return the box around the peak of an (R, C) map, in shares of it, and the value of the peak."""
    middle = (similarity.min() + similarity.max()) / 2
    [found] = hot_cells.boxes(similarity, float(middle))
    return found


def load(source: Source) -> Similarity:
    """Return the model; raise MedgroundError if it has no projection of image features."""
    made = Similarity(source)
    if not hasattr(made.network, "visual_projection"):
        raise MedgroundError(f"{source.folder}: its image features are not in the space of its texts")
    return made
