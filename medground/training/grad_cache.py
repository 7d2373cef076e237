"""The gradient of a whole batch, computed from micro-batches that fit into memory, for any loss.

This is gradient caching (Gao et al. 2021, arXiv 2101.06983), in three stages:

1. Every micro-batch is encoded without gradients.
2. The losses and their gradients with respect to all outputs are computed at once. So means are over the
   whole batch, and contrastive losses compare all of its images.
3. Each micro-batch is encoded again, and its part of the gradient is propagated to the parameters.

The second forward pass costs a third of a step's time. Dropout is the same in both passes. The result is that
of the whole batch, except with trainable batch norms: they compute their statistics per micro-batch.

Letters: B images, U distinct texts, T tokens, N pairs, D width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from medground.models.network import EncodedImages, Predictions
from medground.objectives.learner import Learner
from medground.objectives.objective import Encoded

Loss = Callable[[dict[str, Tensor]], Tensor]


@dataclass(frozen=True)
class Part:
    """A micro-batch: some images of a batch with their pairs and texts.

    `inputs` are the arguments of the network. `images`, `pairs` and `texts` are row numbers in the batch.
    `own` is True for the texts whose gradient this micro-batch propagates. Each text is `own` once per batch.
    """

    inputs: tuple[Tensor, ...]
    images: Tensor
    pairs: Tensor
    texts: Tensor
    own: Tensor


@dataclass(frozen=True)
class Pull:
    """The gradient with respect to a micro-batch's outputs, and to parameters used directly by the losses."""

    encoded: Encoded
    parameters: Sequence[tuple[Tensor, Tensor]] = ()

    def along(self, encoded: Encoded) -> Tensor:
        """Return the inner product with these outputs; its gradient is this micro-batch's part."""
        ways = [(a * b).sum() for a, b in zip(_tensors(encoded), _tensors(self.encoded), strict=True)]
        return torch.stack(
            [each.float() for each in ways + [(a * b).sum() for a, b in self.parameters]]
        ).sum()


def backward(
    learner: nn.Module, bare: Learner, batch: Any, count: int, loss_of: Loss, engine: Accelerator
) -> tuple[Tensor, dict[str, Tensor]]:
    """Add the gradient of loss_of(losses of the batch) to the parameters; return the loss and the losses.

    The batch is processed in `count` micro-batches. Every process must have at least `count` images.
    `learner` is `bare` as the engine prepared it.
    """
    parts = parts_of(batch, count)
    seeds = torch.randint(2**62, (len(parts),)).tolist()
    encoded = []
    with torch.no_grad(), engine.autocast():
        for part, seed in zip(parts, seeds, strict=True):
            torch.manual_seed(seed)
            encoded.append(_unmoved(bare, part))
    scale = engine.scaler.get_scale() if engine.scaler else 1.0
    loss, losses, pulls = _pulls(bare, batch, parts, encoded, loss_of, engine, scale)
    for part, pull, seed in zip(parts, pulls, seeds, strict=True):
        torch.manual_seed(seed)
        if part is parts[-1]:
            engine.backward(learner(part.inputs, pull)["pull"] / scale)
        else:
            with engine.no_sync(learner):
                engine.backward(learner(part.inputs, pull)["pull"] / scale)
    return loss, losses


def _unmoved(bare: Learner, part: Part) -> Encoded:
    """Return the outputs of the micro-batch without updating batch norms; the second pass updates them."""
    norms = [each for each in bare.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)]
    before = [(each, each.momentum) for each in norms]
    for each in norms:
        each.momentum = 0.0
    try:
        return bare.encode(*part.inputs)
    finally:
        for each, momentum in before:
            each.momentum = momentum


def parts_of(batch: Any, count: int) -> list[Part]:
    """Return the batch in `count` micro-batches of consecutive images, of nearly equal size.

    Texts without a pair, such as the sentences of reports, are divided among them, too.
    """
    pixels, inside, ids, mask, image_of, text_of = batch.inputs()
    parts, taken = [], torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    unpaired = torch.ones_like(taken)
    unpaired[text_of] = False
    loose = unpaired.nonzero()[:, 0].tensor_split(count)
    for number, images in enumerate(torch.arange(len(pixels), device=ids.device).tensor_split(count)):
        pairs = torch.isin(image_of, images).nonzero()[:, 0]
        needed = torch.zeros_like(taken)
        needed[text_of[pairs]] = True
        needed[loose[number]] = True
        if not needed.any():
            needed[0] = True  # an encoder needs at least one text
        texts = needed.nonzero()[:, 0]
        row_of = needed.cumsum(0) - 1
        rows = (image_of[pairs] - images[0], row_of[text_of[pairs]])
        inputs = (pixels[images], inside[images], ids[texts], mask[texts], *rows)
        parts.append(Part(inputs, images, pairs, texts, ~taken[texts]))
        taken |= needed
    return parts


def _pulls(
    bare: Learner,
    batch: Any,
    parts: list[Part],
    encoded: list[Encoded],
    loss_of: Loss,
    engine: Accelerator,
    scale: float,
) -> tuple[Tensor, dict[str, Tensor], list[Pull]]:
    """Return the loss and the losses of the whole batch, and the gradient for each micro-batch."""
    whole = _joined(batch, parts, encoded)
    leaves = [each.requires_grad_() for each in _tensors(whole)]
    parameters: list[Tensor] = [each for each in bare.parameters() if each.requires_grad]
    with engine.autocast():
        losses = bare.losses(whole, batch)
        loss = loss_of(losses)
    grads = torch.autograd.grad(loss * scale, leaves + parameters, allow_unused=True)
    moves = [
        torch.zeros_like(leaf) if grad is None else grad
        for leaf, grad in zip(leaves, grads[: len(leaves)], strict=True)
    ]
    direct = [
        (each, grad) for each, grad in zip(parameters, grads[len(leaves) :], strict=True) if grad is not None
    ]
    pulls = [Pull(_part_of(whole, moves, part)) for part in parts]
    return loss, losses, [*pulls[:-1], replace(pulls[-1], parameters=direct)]


def _tensors(encoded: Encoded) -> list[Tensor]:
    """Return the tensors that the losses depend on."""
    tensors = [encoded.images.patches, encoded.images.grid, encoded.tokens]
    answers = encoded.predictions
    return tensors + ([*answers.tensors()] if answers else [])


def _joined(batch: Any, parts: list[Part], encoded: list[Encoded]) -> Encoded:
    """Return the outputs for the whole batch, with the rows in their original order."""
    images = EncodedImages(
        *(torch.cat(each) for each in zip(*(some.images for some in encoded), strict=True))
    )
    first = encoded[0].tokens
    tokens = first.new_zeros(len(batch.ids), *first.shape[1:])
    for part, some in zip(parts, encoded, strict=True):
        tokens[part.texts[part.own]] = some.tokens[part.own]
    if encoded[0].predictions is None:
        return Encoded(images, tokens, batch.mask, None)
    back = torch.cat([part.pairs for part in parts]).argsort()
    found = [a.tensors() for some in encoded if (a := some.predictions)]
    answers = Predictions.of(torch.cat(each)[back] for each in zip(*found, strict=True))
    return Encoded(images, tokens, batch.mask, answers)


def _part_of(whole: Encoded, moves: list[Tensor], part: Part) -> Encoded:
    """Return the rows of `moves`, in the order of `_tensors`, that belong to the micro-batch."""
    patches, grid, tokens, *answers = moves
    images = EncodedImages(patches[part.images], whole.images.visible[part.images], grid[part.images])
    own = torch.where(part.own[:, None, None], tokens[part.texts], 0)
    predicted = Predictions.of(each[part.pairs] for each in answers) if answers else None
    return Encoded(images, own, whole.mask, predicted)
