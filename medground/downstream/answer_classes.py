"""A classifier of the training answers: its head, its loss, its training and its predictions.

The head is that of M3AE (Chen et al., MICCAI 2022): linear, layer norm, GELU, linear. Its loss is the binary
cross-entropy of each class, summed over the classes. If the whole network is frozen, the joint features are
computed once and standardized.

Letters: N questions, E joint feature, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from medground.downstream.answer_inputs import Inputs, Progress
from medground.downstream.question_table import Classes
from medground.records import Question


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
    inputs.model.network.eval()
    starts = range(0, len(questions), count)
    with torch.inference_mode():
        found = [
            inputs.features(inputs.batch(questions[start : start + count])).float().cpu()
            for start in progress(starts, "batches of questions", len(starts))
        ]
    return torch.cat(found).clone()


@dataclass
class ClassTask:
    """The training of a head; `features` are those of the training and the validation questions if frozen."""

    inputs: Inputs
    head: Head
    train: Sequence[Question]
    val: Sequence[Question]
    classes: Classes
    features: tuple[Tensor, Tensor] | None = None

    def __post_init__(self) -> None:
        self._wanted = [torch.tensor(self.classes.index(each)) for each in (self.train, self.val)]
        if self.features is not None:
            self.head.standardize(self.features[0])
        self.head.to(self.inputs.model.device)

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
            found = self.inputs.features(self.inputs.batch([questions[row] for row in rows]))
        else:
            found = self.features[part][list(rows)].to(device)
        return self.head(found), self._wanted[part][list(rows)].to(device)
