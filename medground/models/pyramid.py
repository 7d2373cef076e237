"""Feature maps of an image encoder at several strides.

Letters: B images, C channels, S side of the square, D width, h x w cells of a feature map.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from medground.models import encoders, lite


def maps(network: nn.Module, pixels: Tensor) -> list[Tensor]:
    """Return (B, D, h, w) feature maps of (B, C, S, S) inputs, one for each stride, fine to coarse.

    A vision transformer has one. The last map of a stride is taken, and none that is coarser than the
    encoder's output.
    """
    if isinstance(network, lite.Lite | lite.Pair):
        return _last_of_each(network.maps(pixels))
    if isinstance(network, encoders.PatchTokens):
        return [network(pixels).feature_maps[-1]]
    stem: list[Tensor] = []
    with _seen(network, stem):
        found: Any = network(pixels, output_hidden_states=True)
    last = found.feature_maps[-1]
    inner = [each for each in found.hidden_states or () if each.ndim == 4]
    finer = [each for each in (*stem, *inner) if each.shape[-1] > last.shape[-1]]
    return [*_last_of_each(finer), last]


def _last_of_each(maps: Sequence[Tensor]) -> list[Tensor]:
    """Return the last of the maps of each size, in their order."""
    return list({each.shape[-2:]: each for each in maps}.values())


class _seen:
    """A context in which the first convolution of a ResNet, before its pooling, adds its map to a list."""

    def __init__(self, network: nn.Module, found: list[Tensor]):
        self._stem = getattr(getattr(network, "embedder", None), "embedder", None)
        self._found = found

    def __enter__(self) -> None:
        if self._stem is not None:
            self._hook = self._stem.register_forward_hook(lambda _, __, output: self._found.append(output))

    def __exit__(self, *error: object) -> None:
        if self._stem is not None:
            self._hook.remove()
