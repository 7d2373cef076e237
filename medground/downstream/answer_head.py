"""The file that holds trained heads for answers, for `medground answer --head`.

It has the heads of several runs, each with the weights of the network that were trained with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from medground import checkpoints
from medground.downstream.question_table import Classes
from medground.errors import MedgroundError

KIND = "answer head"
Weights = Mapping[str, Tensor]


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
    """The classes and settings of a training, and its runs so far.

    shape: of a head's input, as in `answer_classes.new`. settings: JSON values that decide the result;
    `model` is the hash of the network's weights. record: of the training patients, as in `leakage`.
    """

    classes: Classes
    shape: list[int]
    settings: dict[str, Any]
    record: dict[str, Any] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write the file; the same runs give the same bytes."""
        runs = [{"seed": e.seed, "epoch": e.epoch, "accuracy": e.accuracy} for e in self.runs]
        answers = {"names": self.classes.names, "shown": self.classes.shown}
        facts = {"kind": KIND, "answers": answers, "shape": self.shape, "settings": self.settings}
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
        return HeadFile(
            classes, [*map(int, facts["shape"])], dict(facts["settings"]), dict(facts["record"]), runs
        )
    except (KeyError, TypeError, ValueError):
        raise MedgroundError(f"{path}: not a head of medground answer; name another file") from None


def part(weights: Weights, name: str) -> dict[str, Tensor]:
    """Return the weights below a name, without it."""
    return {key.removeprefix(f"{name}."): each for key, each in weights.items() if key.startswith(f"{name}.")}
