"""The checked records of an evaluation, as a protocol gets them; each kind of predictions has a subclass."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from medground.records import Anatomy, Grounding, Phrase

Kind = Literal["phrases", "anatomy", "heatmaps", "perturbations"]


@dataclass(kw_only=True)
class Prepared:
    """The scored records, and the records that must not share a patient with them.

    train: fits the image-free baseline (None: no baseline). elsewhere: the truth's records of other splits.
    predictions, compared: those of the model and of another one, if they are groundings.
    """

    scored: Sequence[Phrase | Anatomy]
    train: Sequence[Phrase | Anatomy] | None = None
    elsewhere: Sequence[Phrase | Anatomy] = ()
    predictions: Sequence[Grounding] = ()
    compared: Sequence[Grounding] = ()

    def models(self) -> set[str]:
        """Return the hashes of the models that made the predictions, if they are known."""
        return {each.model for each in self.predictions if each.model}
