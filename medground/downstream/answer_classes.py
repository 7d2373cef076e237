"""A classifier of the training answers: its head, its loss, its training and its predictions.

The head is that of M3AE (Chen et al., MICCAI 2022): linear, layer norm, GELU, linear. Its loss is the binary
cross-entropy of each class, summed over the classes. If the whole network is frozen, the joint features are
computed once and standardized.

With `--layer attention` or `encoder` the head has the fusion too: the tokens of the question attend to the
patches. So a head over frozen encoders does not lose the places of findings, as means of patches do.

Letters: N questions, E joint feature, K classes; C channels of a patch; P, T
and D as in `answer_inputs`, B images.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from medground.downstream.answer_inputs import ATTENDED, PATCHES, Inputs, Progress
from medground.downstream.question_table import Classes
from medground.models import layers
from medground.models.config import GrounderConfig
from medground.records import Question

ATTENTION_LAYERS = 2
STANDARDIZED = 16  # images per batch


class Head(nn.Module):
    """Logits of the classes from joint features, which are scaled by `mean` and `scale` first."""

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int, classes: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, 2 * width), nn.LayerNorm(2 * width), nn.GELU(), nn.Linear(2 * width, classes)
        )
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))

    def standardize(self, features: Tensor) -> None:
        """Scale features from now on so that the (N, E) given ones have mean 0 and deviation 1."""
        self.mean.copy_(features.mean(dim=0))
        self.scale.copy_(features.std(dim=0, correction=0).clamp(min=1e-6))

    def forward(self, features: Tensor) -> Tensor:
        """Return (N, K) logits of (N, E) features."""
        result: Tensor = self.layers((features - self.mean) / self.scale)
        return result


class AttentionHead(nn.Module):
    """Logits of the classes from patches and tokens: a pre-norm decoder of the question over the patches.

    Patches are scaled by `mean` and `scale` first, projected to the width D of the model, and get learned
    positions. patches, channels: P and C of the patches.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, config: GrounderConfig, patches: int, channels: int, classes: int):
        super().__init__()
        self.enter = nn.Linear(channels, config.width)
        self.first = nn.Parameter(torch.randn(config.width) * 0.02)
        self.places = nn.Parameter(torch.randn(patches, config.width) * 0.02)
        shape = (config.width, config.heads, config.feed_forward, config.dropout)
        self.decoder = layers.decoder(ATTENTION_LAYERS, *shape)
        self.leave = nn.Linear(config.width, classes)
        self.register_buffer("mean", torch.zeros(patches, channels))
        self.register_buffer("scale", torch.ones(channels))

    def standardize(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Scale patches from now on so that those of these images have mean 0 at each place and deviation 1.

        batches: (B, P, C) patches and (B, P), True if visible. Each item of the collection is seen once.
        """
        count, total, squares = (self.mean.new_zeros(()).double() for _ in range(3))
        for patches, visible in batches:
            seen = visible[..., None].double()
            kept = patches.double() * seen
            count, total = count + seen.sum(dim=0), total + kept.sum(dim=0)
            squares = squares + kept.square().sum(dim=0)
        mean = total / count.clamp(min=1)
        spread = (squares - count * mean.square()).sum(dim=0) / count.sum()
        self.mean.copy_(mean)
        self.scale.copy_(spread.clamp(min=0).sqrt().clamp(min=1e-3))

    def forward(self, patches: Tensor, visible: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return (N, K) logits of (N, P, C) patches and (N, T, D) tokens, with the masks of `Encoded`."""
        count = len(tokens)
        queries = torch.cat([self.first.expand(count, 1, -1), tokens], dim=1)
        ignored = ~torch.cat([mask.new_ones(count, 1), mask], dim=1)
        memory = functional.gelu(self.enter((patches - self.mean) / self.scale) + self.places)
        outputs = self.decoder(
            queries, memory, tgt_key_padding_mask=ignored, memory_key_padding_mask=~visible
        )
        result: Tensor = self.leave(outputs[:, 0])
        return result


AnyHead = Head | AttentionHead


def new(inputs: Inputs, shape: Sequence[int], classes: int) -> AnyHead:
    """Return an untrained head for the layer of the inputs; shape: (E,), or (P, C) for one with attention."""
    if inputs.layer in ATTENDED:
        patches, channels = shape
        return AttentionHead(inputs.model.config, patches, channels, classes)
    (width,) = shape
    return Head(width, classes)


def loss(logits: Tensor, classes: Tensor) -> Tensor:
    """Return the mean over (N,) questions of the binary cross-entropy, summed over classes.

    logits: (N, K). classes: (N,), -1 for a question whose answer is no class.
    """
    wanted = torch.zeros_like(logits)
    known = classes >= 0
    wanted[known, classes[known]] = 1
    each = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return each.sum(dim=1).mean()


def computed(inputs: Inputs, questions: Sequence[Question], count: int, progress: Progress) -> Tensor:
    """Return the (N, E) joint features of the questions, on the CPU, in batches of `count`."""
    return _by_batches(lambda own: inputs.features(inputs.batch(own)), inputs, questions, count, progress)


def scores(
    inputs: Inputs, head: AnyHead, questions: Sequence[Question], count: int, progress: Progress
) -> Tensor:
    """Return the (N, K) logits of the questions, on the CPU, in batches of `count`."""
    return _by_batches(lambda own: _logits(inputs, head, own), inputs, questions, count, progress)


def _by_batches(
    of: Callable[[Sequence[Question]], Tensor],
    inputs: Inputs,
    questions: Sequence[Question],
    count: int,
    progress: Progress,
) -> Tensor:
    inputs.model.network.eval()
    starts = range(0, len(questions), count)
    with torch.inference_mode():
        found = [
            of(questions[start : start + count]).float().cpu()
            for start in progress(starts, "batches of questions", len(starts))
        ]
    return torch.cat(found).clone()


def _logits(inputs: Inputs, head: AnyHead, questions: Sequence[Question]) -> Tensor:
    batch = inputs.batch(questions)
    if isinstance(head, AttentionHead):
        result: Tensor = head(*inputs.encoded(batch))
    else:
        result = head(inputs.features(batch))
    return result


@dataclass
class ClassTask:
    """The training of a head; `features` are those of the training and the validation questions if known."""

    inputs: Inputs
    head: AnyHead
    train: Sequence[Question]
    val: Sequence[Question]
    classes: Classes
    features: tuple[Tensor, Tensor] | None = None

    def __post_init__(self) -> None:
        self._wanted = [torch.tensor(self.classes.index(each)) for each in (self.train, self.val)]
        if isinstance(self.head, AttentionHead):
            if self.inputs.keep == PATCHES:  # else they change
                self.head.standardize(self._images(STANDARDIZED))
        elif self.features is not None:
            self.head.standardize(self.features[0])
        self.head.to(self.inputs.model.device)

    def _images(self, count: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the patches of the training images, and True if they are visible, in batches of `count`."""
        firsts = list({each.path: each for each in self.train}.values())
        self.inputs.model.network.eval()
        for start in range(0, len(firsts), count):
            with torch.no_grad():
                yield self.inputs.encoded(self.inputs.batch(firsts[start : start + count]))[:2]

    def loss(self, rows: Sequence[int]) -> Tensor:
        """Return the mean loss of some training questions."""
        return loss(*self._logits(0, rows))

    def validate(self, batch_size: int) -> tuple[float, float]:
        """Return the accuracy and the mean loss on the validation questions."""
        right, total, count = 0, 0.0, len(self.val)
        for start in range(0, count, batch_size):
            logits, wanted = self._logits(1, range(start, min(start + batch_size, count)))
            right += int((logits.argmax(dim=1) == wanted).sum())
            total += float(loss(logits, wanted)) * len(wanted)
        return right / count, total / count

    def _logits(self, part: int, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the logits and the classes of some questions of a part: 0 training, 1 validation."""
        questions, device = (self.train, self.val)[part], self.inputs.model.device
        if self.features is None:
            logits = _logits(self.inputs, self.head, [questions[row] for row in rows])
        else:
            logits = self.head(self.features[part][list(rows)].to(device))
        return logits, self._wanted[part][list(rows)].to(device)
