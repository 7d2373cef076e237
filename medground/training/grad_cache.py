"""The gradient of a whole batch from parts of it that fit into memory: the same, whatever the losses are.

First every part is encoded without keeping what a gradient needs. From all that came out, the losses and
their gradients as to those outputs are taken at once, so means stay means over the whole batch and contrasts
reach over all of it. Then each part is encoded again, and moved along its share of that gradient (gradient
caching; Gao et al. 2021, arXiv 2101.06983). It costs a second forward pass, a third of a step's time.
Dropout is the same both times. A batch norm that learns sees each part by itself, so only with frozen norms,
or with none, is the result that of the whole batch.

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
    """Some images of a batch with their pairs and texts: `inputs` as a network takes them, and the batch's
    rows of its images, pairs and texts. Of the texts, those in `own` are this part's to answer for."""

    inputs: tuple[Tensor, ...]
    images: Tensor
    pairs: Tensor
    texts: Tensor
    own: Tensor


@dataclass(frozen=True)
class Pull:
    """The gradient as to the outputs of a part, and as to parameters that the losses use directly."""

    encoded: Encoded
    parameters: Sequence[tuple[Tensor, Tensor]] = ()

    def along(self, encoded: Encoded) -> Tensor:
        """The inner product with these outputs: its gradient is the part's share of the batch's."""
        ways = [(a * b).sum() for a, b in zip(_tensors(encoded), _tensors(self.encoded), strict=True)]
        return torch.stack(
            [each.float() for each in ways + [(a * b).sum() for a, b in self.parameters]]
        ).sum()


def backward(
    learner: nn.Module, bare: Learner, batch: Any, count: int, loss_of: Loss, engine: Accelerator
) -> tuple[Tensor, dict[str, Tensor]]:
    """Add the gradient of loss_of(losses of the batch) to the parameters', in `count` parts; loss and losses.

    No process may have fewer images than parts. `learner` is `bare` as the engine prepared it.
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
    """What the part's outputs are; batch norms do not learn from it: they will see it again."""
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
    """The batch in `count` parts of neighbouring images, as even as can be."""
    film, inside, ids, mask, image_of, text_of = batch.inputs()
    parts, taken = [], torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    for number, images in enumerate(torch.arange(len(film), device=ids.device).tensor_split(count)):
        pairs = torch.isin(image_of, images).nonzero()[:, 0]
        needed = torch.zeros_like(taken)
        needed[text_of[pairs]] = True
        if number == count - 1:
            needed |= ~(taken | needed)  # texts of no pair; other losses ask for them
        if not needed.any():
            needed[0] = True  # no encoder reads nothing
        texts = needed.nonzero()[:, 0]
        row_of = needed.cumsum(0) - 1
        rows = (image_of[pairs] - images[0], row_of[text_of[pairs]])
        inputs = (film[images], inside[images], ids[texts], mask[texts], *rows)
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
    """The loss and the losses of the whole batch and, for each part, where its outputs are to move."""
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
    """What the losses are functions of."""
    tensors = [encoded.images.patches, encoded.images.grid, encoded.tokens]
    answers = encoded.predictions
    return tensors + ([answers.boxes, answers.scores, answers.present] if answers else [])


def _joined(batch: Any, parts: list[Part], encoded: list[Encoded]) -> Encoded:
    """The outputs for the whole batch, its rows in their order."""
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
    found = [(a.boxes, a.scores, a.present) for some in encoded if (a := some.predictions)]
    answers = Predictions(*(torch.cat(each)[back] for each in zip(*found, strict=True)))
    return Encoded(images, tokens, batch.mask, answers)


def _part_of(whole: Encoded, moves: list[Tensor], part: Part) -> Encoded:
    """The rows of `moves`, which are as `_tensors` has them, that belong to the part."""
    patches, grid, tokens, *answers = moves
    images = EncodedImages(patches[part.images], whole.images.visible[part.images], grid[part.images])
    own = torch.where(part.own[:, None, None], tokens[part.texts], 0)
    asked = Predictions(*(each[part.pairs] for each in answers)) if answers else None
    return Encoded(images, own, whole.mask, asked)
