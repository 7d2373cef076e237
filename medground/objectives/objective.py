"""What an objective is: named losses with weights, and the heads that only training needs.

A new objective is one module with a subclass of `Objective`, and a line in `objectives.learner.OBJECTIVES`.

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
    """Heads and losses; `defaults` are the weights of the named losses.

    `asks`: whether pairs are fused; `reads`: whether a batch needs its reports; `texts`: what is to be among
    the texts of every batch that has them.
    """

    defaults: Mapping[str, float] = {}
    asks = False
    reads = False
    texts: Sequence[str] = ()

    def __init__(self, model: Grounder):
        super().__init__()

    def weights(self, progress: float) -> Mapping[str, float]:
        """The weights of the losses when this share of the training, in [0, 1], is done."""
        return self.defaults

    def forward(self, encoded: Encoded, batch: Any) -> dict[str, Tensor]:
        """The named losses, each one unweighted scalar; the keys are those of `defaults`.

        A batch that says nothing about a loss costs 0, not NaN.
        """
        raise NotImplementedError
