"""The base class of objectives: named losses, and the heads that only training needs.

A new objective is one module with a subclass of `Objective`, and an entry in `registry.OBJECTIVES`.

Letters: B images, U distinct texts, N (image, phrase) pairs, M boxes of those pairs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from medground.models.grounder import Grounder
from medground.models.network import EncodedImages, Predictions


@dataclass(frozen=True)
class Encoded:
    """The network's outputs for a batch.

    tokens, mask: (U, T, D) and (U, T) of its texts. predictions: of its pairs, None if no objective uses
    them.
    """

    images: EncodedImages
    tokens: Tensor
    mask: Tensor
    predictions: Predictions | None


class Objective(nn.Module):
    """The heads and losses of an objective.

    `defaults` are the weights of its losses; the learner sets them from the registry. `skipped` are losses
    with the weight 0, which may be 0 without a computation. `texts` are added to the texts of every batch
    with reports. `uses_tokens` is False if it needs no `Encoded.tokens`: they are 0 if no objective does.
    """

    defaults: Mapping[str, float] = {}
    skipped: frozenset[str] = frozenset()
    texts: Sequence[str] = ()
    uses_tokens = True

    def __init__(self, model: Grounder):
        super().__init__()

    def ramp(self, progress: float) -> float:
        """Return the factor of the weights of its losses at this share of the training, in [0, 1]."""
        return 1.0

    def forward(self, encoded: Encoded, batch: Any) -> dict[str, Tensor]:
        """Return the named losses, each an unweighted scalar; the keys are those of `defaults`.

        A loss without data in the batch is 0, not NaN.
        """
        raise NotImplementedError
