"""The head that predicts one of the training answers, and the file that holds trained heads.

The head is that of M3AE (Chen et al., MICCAI 2022): linear, layer norm, GELU, linear. Its loss is the binary
cross-entropy of each class, summed over the classes. A file has the heads of several runs, each with the
weights of the network that were trained with it.

Letters: N questions, E joint feature, K classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from medground import checkpoints
from medground.downstream.question_table import Classes
from medground.errors import MedgroundError

KIND = "answer head"
Weights = Mapping[str, Tensor]


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


@dataclass(frozen=True)
class Run:
    """One trained head: its seed, the epoch that was kept, its validation accuracy, and its weights.

    weights: of the head, "head.NAME", and of the trained parts of the network, "network.NAME".
    """

    seed: int
    epoch: int
    accuracy: float
    weights: Weights


@dataclass
class HeadFile:
    """The classes and settings of a training, and its runs so far. width: E.

    settings: JSON values that decide the result; `model` is the hash of the network's weights. record: of the
    training patients, as in `leakage`.
    """

    classes: Classes
    width: int
    settings: dict[str, Any]
    record: dict[str, Any] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write the file; the same runs give the same bytes."""
        runs = [{"seed": e.seed, "epoch": e.epoch, "accuracy": e.accuracy} for e in self.runs]
        answers = {"names": self.classes.names, "shown": self.classes.shown}
        facts = {"kind": KIND, "answers": answers, "width": self.width, "settings": self.settings}
        weights = {f"{e.seed}.{name}": each for e in self.runs for name, each in e.weights.items()}
        checkpoints.save(path, weights, facts | {"record": self.record, "runs": runs})


def load(path: Path) -> HeadFile:
    """Return the content of a file; raise MedgroundError for any other file."""
    weights, facts = checkpoints.load(path)
    try:
        if facts["kind"] != KIND:
            raise KeyError
        classes = Classes([*map(str, facts["answers"]["names"])], [*map(str, facts["answers"]["shown"])])
        runs = [
            Run(
                seed=int(each["seed"]),
                epoch=int(each["epoch"]),
                accuracy=float(each["accuracy"]),
                weights={
                    name.partition(".")[2]: tensor
                    for name, tensor in weights.items()
                    if name.partition(".")[0] == str(each["seed"])
                },
            )
            for each in facts["runs"]
        ]
        return HeadFile(classes, int(facts["width"]), dict(facts["settings"]), dict(facts["record"]), runs)
    except (KeyError, TypeError, ValueError):
        raise MedgroundError(f"{path}: not a head of medground answer; name another file") from None


def of_run(run: Run, width: int, classes: int, path: Path | str) -> Head:
    """Return the head of a run in evaluation mode; raise MedgroundError if its weights do not fit."""
    head = Head(width, classes)
    checkpoints.fit(head, part(run.weights, "head"), Path(path))
    return head.eval()


def part(weights: Weights, name: str) -> dict[str, Tensor]:
    """Return the weights below a name, without it."""
    return {key.removeprefix(f"{name}."): each for key, each in weights.items() if key.startswith(f"{name}.")}
