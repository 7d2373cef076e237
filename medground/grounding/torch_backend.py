"""Predictions of a torch network. Letters: S side of the square, N texts, T tokens, P patches, D width."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from medground.grounding.engine import EncodedImage, Outputs, Query
from medground.models.grounder import Grounder
from medground.models.network import Network, Predictions


@torch.inference_mode()
def encode(model: Grounder, picture: Any) -> EncodedImage:
    """Return a (2, S, S) picture, encoded; its tensors are on the model's device."""
    both = torch.as_tensor(picture)[None].to(model.device)
    with fused_attention():
        images = model.network.encode_images(both[:, :1], both[:, 1:])
    return EncodedImage(images.patches, images.visible)


def query(model: Grounder, image: EncodedImage) -> Query:
    """Return the function from (N, T) ids and mask of texts to the outputs on an encoded image."""
    device = model.device
    at_once = 4 if device.type == "cpu" else 256  # on a CPU few, so that activations stay in its caches

    @torch.inference_mode()
    def outputs(ids: Any, mask: Any) -> Outputs:
        with fused_attention():
            texts = torch.as_tensor(ids).to(device), torch.as_tensor(mask).to(device)
            found = _outputs(model.network, image, *texts, at_once)
        return Outputs.of(each.cpu().double().numpy() for each in (found.boxes, found.scores, found.present))

    return outputs


@contextmanager
def fused_attention() -> Iterator[None]:
    """Disable torch's "fast path" of encoder layers inside the block.

    With padding, the fast path materializes all attention weights, which is slower on a CPU. Fusion of the
    published shape takes a quarter less time without it (measured).
    """
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _outputs(network: Network, image: EncodedImage, ids: Tensor, mask: Tensor, at_once: int) -> Predictions:
    """Return outputs for (N, T) texts on one image, `at_once` at a time; see EncodedImage."""
    tokens = network.encode_texts(ids, mask)
    chunks = zip(tokens.split(at_once), mask.split(at_once), strict=True)
    parts = [fused(network, *image, *chunk) for chunk in chunks]
    each = zip(*((part.boxes, part.scores, part.present) for part in parts), strict=True)
    return Predictions.of(torch.cat(some) for some in each)


def fused(network: Network, patches: Tensor, visible: Tensor, tokens: Tensor, mask: Tensor) -> Predictions:
    """Return the outputs for N texts on one image."""
    count = tokens.shape[0]
    return network.fuse(patches.expand(count, -1, -1), visible.expand(count, -1), tokens, mask)
