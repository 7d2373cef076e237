"""The checked records of an evaluation, as a protocol gets them; each kind of predictions has a subclass."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from medground.leakage import Imaged
from medground.records import Answer, Classification, Grounding, Mask, Report

Kind = Literal["phrases", "anatomy", "heatmaps", "labels", "masks", "questions", "reports", "perturbations"]
Predicted = Grounding | Classification | Mask | Answer | Report


@dataclass(kw_only=True)
class Prepared:
    """The scored records, and the records that must not share a patient with them.

    train: fits the image-free baseline (None: no baseline). elsewhere: the truth's records of other splits.
    predictions, compared: those of the model and of another one, if they are groundings. rules: the split and
    the rule that made it, if the records state them (`sources.rules`).
    """

    scored: Sequence[Imaged]
    train: Sequence[Imaged] | None = None
    elsewhere: Sequence[Imaged] = ()
    predictions: Sequence[Predicted] = ()
    compared: Sequence[Predicted] = ()
    rules: Mapping[str, Any] = field(default_factory=dict)

    def models(self) -> set[str]:
        """Return the hashes of the models that made the predictions, if they are known."""
        return models_of(self.predictions)

    def about(self) -> dict[str, Any]:
        """Return further keys for each score: the rules."""
        return dict(self.rules)


def models_of(predictions: Sequence[Predicted]) -> set[str]:
    """Return the hashes of the models that made the predictions, if they are known."""
    found = (getattr(each, "model", None) or each.extra.get("model") for each in predictions)
    return {str(each) for each in found if each}
