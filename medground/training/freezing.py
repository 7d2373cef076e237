"""Parts of a network that training leaves as they are, to the last bit: no gradient, no norm's statistics,
no dropout, no weight decay."""

from collections.abc import Iterable

from torch import nn

from medground.models.network import Network

# "visual" is what stands between the image encoder and the joint encoder.
PARTS: dict[str, tuple[str, ...]] = {
    "image-encoder": ("image_encoder",),
    "text-encoder": ("text_encoder",),
    "visual": ("to_patches", "visual"),
}


def freeze(network: Network, parts: Iterable[str]) -> list[nn.Module]:
    """The modules of the named parts, their parameters made such that no optimiser moves them.

    `training.loop` keeps them in evaluation mode; nothing here is written into the model.
    """
    frozen = [getattr(network, name) for part in parts for name in PARTS[part]]
    for module in frozen:
        module.requires_grad_(False)
    return frozen
