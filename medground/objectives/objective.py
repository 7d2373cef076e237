"""What an objective is: named losses with weights, and the heads that only training needs.

A new objective is one module with a subclass of `Objective`, and an entry in `registry.OBJECTIVES`.

Letters: B images, U distinct texts, N (image, phrase) pairs, M boxes of those pairs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from medground.models.grounder import Grounder
from medground.models.network import Answers, Images


@dataclass(frozen=True)
class Encoded:
    """What the network made of a batch: its images, the tokens (U, T, D) and mask (U, T) of its texts, and
    the answers for its pairs, None where no objective asks for any."""

    images: Images
    tokens: Tensor
    mask: Tensor
    answers: Answers | None


class Objective(nn.Module):
    """The heads and losses of an objective.

    `defaults` are the weights of its losses; the learner sets them from the registry. `texts` are added to
    the texts of every batch with reports.
    """

    defaults: Mapping[str, float] = {}
    texts: Sequence[str] = ()

    def __init__(self, model: Grounder):
        super().__init__()

    def ramp(self, progress: float) -> float:
        """Return the factor of the weights of its losses at this share of the training, in [0, 1]."""
        return 1.0

    def forward(self, encoded: Encoded, batch: Any) -> dict[str, Tensor]:
        """The named losses, each one unweighted scalar; the keys are those of `defaults`.

        A batch that says nothing about a loss costs 0, not NaN.
        """
        raise NotImplementedError
