"""Training of a decoder over a frozen image encoder, or of both.

The order and the views of an epoch depend only on the seed and the epoch. The weights with the lowest loss on
the validation images are kept. Batches are never dropped. Letters: B images, K classes, S side.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medground.data.prefetch import Prefetched
from medground.downstream.image_encoders import ImageEncoder
from medground.downstream.segment import losses, views
from medground.downstream.segment.decoders import Shape
from medground.downstream.segment.images import MaskedImages
from medground.downstream.splits import Rows
from medground.errors import MedgroundError

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a training; the defaults are MGCA's.

    unfreeze: whether the encoder is trained, too, with the learning rate `encoder_lr` (None: a tenth).
    """

    epochs: int = 50
    patience: int = 10
    batch_size: int = 8
    lr: float = 5e-4
    weight_decay: float = 0.05
    focal_weight: float = 10.0
    focal_gamma: float = 2.0
    dice_weight: float = 1.0
    ranges: views.Ranges = field(default_factory=views.Ranges)
    unfreeze: bool = False
    encoder_lr: float | None = None

    def loss(self, logits: Tensor, masks: Tensor, inside: Tensor) -> Tensor:
        """Return the loss of a batch; arguments as in `losses.mixed`."""
        return losses.mixed(logits, masks, inside, self.focal_weight, self.focal_gamma, self.dice_weight)


class Segmenter(nn.Module):
    """An image encoder with a decoder: (B, 2, S, S) images with their insides -> (B, K, S, S) logits."""

    def __init__(self, encoder: ImageEncoder, decoder: nn.Module, unfreeze: bool = False):
        super().__init__()
        self.encoder, self.network, self.decoder, self.unfreeze = encoder, encoder.network, decoder, unfreeze
        for each in self.network.parameters():
            each.requires_grad_(unfreeze)

    @property
    def device(self) -> torch.device:
        """The device of the decoder."""
        return next(self.decoder.parameters()).device

    def train(self, mode: bool = True) -> "Segmenter":
        """Set the mode; a frozen encoder stays as in predictions, and so do all its batch norms."""
        super().train(mode)
        self.network.train(mode and self.unfreeze)
        for each in self.network.modules():
            if isinstance(each, nn.modules.batchnorm._BatchNorm):
                each.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        with torch.set_grad_enabled(self.unfreeze and self.training):
            maps = self.encoder.maps(images[:, :1], images[:, 1:])
        logits: Tensor = self.decoder(maps)
        return logits

    def kept(self) -> dict[str, Tensor]:
        """Return a copy of the weights that training changes."""
        weights = {f"decoder.{name}": each for name, each in self.decoder.state_dict().items()}
        if self.unfreeze:
            weights |= {f"network.{name}": each for name, each in self.network.state_dict().items()}
        return {name: each.detach().cpu().clone() for name, each in weights.items()}

    def restore(self, weights: dict[str, Tensor]) -> None:
        """Load the weights of `kept`."""
        self.load_state_dict(weights, strict=False)


def build(encoder: ImageEncoder, shape: Shape, settings: Settings, seed: int, device: str) -> Segmenter:
    """Return an untrained segmenter; its random weights follow from the seed.

    With `unfreeze`, the segmenter has a copy of the encoder.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        decoder = shape.build()
    if settings.unfreeze:
        encoder = encoder.copied()
    return Segmenter(encoder, decoder.to(device), settings.unfreeze)


def fit(
    segmenter: Segmenter,
    data: MaskedImages,
    rows: Rows,
    settings: Settings,
    seed: int,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> int:
    """Train on the images of `rows`, keep the epoch with the lowest validation loss, and return its number.

    `progress` wraps the epochs. Raises MedgroundError if the loss is not finite.
    """
    optimizer = torch.optim.AdamW(_groups(segmenter, settings), weight_decay=settings.weight_decay)
    best, kept, chosen = np.inf, segmenter.kept(), 0
    for epoch in progress(range(1, settings.epochs + 1)):
        trained = _epoch(segmenter, optimizer, data, rows, settings, [seed, epoch])
        figure = validate(segmenter, data, settings)
        log.info("epoch %d: training loss %.4f, validation loss %.4f", epoch, trained, figure)
        if figure < best:
            best, kept, chosen = figure, segmenter.kept(), epoch
        elif epoch - chosen >= settings.patience:
            break
    segmenter.restore(kept)
    return chosen


def _groups(segmenter: Segmenter, settings: Settings) -> list[dict[str, Any]]:
    groups = [{"params": list(segmenter.decoder.parameters()), "lr": settings.lr}]
    if settings.unfreeze:
        rate = settings.lr / 10 if settings.encoder_lr is None else settings.encoder_lr
        groups.append({"params": list(segmenter.network.parameters()), "lr": rate})
    return groups


def _epoch(
    segmenter: Segmenter,
    optimizer: torch.optim.Optimizer,
    data: MaskedImages,
    rows: Rows,
    settings: Settings,
    key: list[int],
) -> float:
    """Return the mean loss of an epoch over its images."""
    segmenter.train()
    order = np.random.default_rng([*key, 0]).permutation(rows)

    def views_of(own: Rows) -> tuple[Tensor, Tensor]:
        rngs = [np.random.default_rng([*key, 1, int(row)]) for row in own]
        return views.draw(*data.batch(own), settings.ranges, rngs)

    total = 0.0
    for images, masks in _batches(order, settings.batch_size, views_of, segmenter.device):
        optimizer.zero_grad()
        loss = settings.loss(segmenter(images), masks, images[:, 1:])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total += float(loss.detach()) * len(images)
    return _finite(total / len(rows))


@torch.inference_mode()
def validate(segmenter: Segmenter, data: MaskedImages, settings: Settings) -> float:
    """Return the mean loss of the batches of validation images, weighted by their sizes."""
    segmenter.eval()
    rows, total = data.rows["val"], 0.0
    for images, masks in _batches(rows, settings.batch_size, data.batch, segmenter.device):
        total += float(settings.loss(segmenter(images), masks, images[:, 1:])) * len(images)
    return _finite(total / len(rows))


def _batches(
    rows: Rows, count: int, make: Callable[[Rows], tuple[Tensor, Tensor]], device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of the rows on the device; on a GPU the next one is prepared meanwhile."""

    def batch(start: int) -> tuple[Tensor, Tensor]:
        return make(rows[start : start + count])

    ahead = 0 if device.type == "cpu" else 2
    for _, (images, masks) in Prefetched(batch, range(0, len(rows), count), ahead):
        yield images.to(device), masks.to(device)


def _finite(loss: float) -> float:
    if not np.isfinite(loss):
        raise MedgroundError("the loss is not finite; use a lower --lr")
    return loss
