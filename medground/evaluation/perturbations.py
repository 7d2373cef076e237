"""The protocol `probes`: a model itself is scored, on perturbed images and phrases (`robustness`).

The predictions are a function: it takes the scored phrases, and yields the model's predictions for each
perturbation. It is called after the check for leakage.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from medground.evaluation import baseline, phrases, robustness
from medground.evaluation.prepared import Kind, Prepared
from medground.evaluation.report import probe_pictures
from medground.evaluation.report.pictures import Galleries
from medground.evaluation.robustness import Perturbed
from medground.evaluation.stats.scoring import Measured
from medground.records import Phrase

Predict = Callable[[Sequence[Phrase]], Iterator[Perturbed]]


@dataclass(kw_only=True)
class PerturbedData(Prepared):
    """Phrases with boxes, and the function that makes the model's predictions."""

    scored: Sequence[Phrase]
    train: Sequence[Phrase] | None = None
    predict: Predict

    @cached_property
    def found(self) -> list[Perturbed]:
        """The predictions, made when first used; phrases of one image follow one another."""
        place = {path: number for number, path in enumerate(dict.fromkeys(each.path for each in self.scored))}
        return list(self.predict(sorted(self.scored, key=lambda each: place[each.path])))

    def models(self) -> set[str]:
        """Return the hashes that the predictions state."""
        return {each.model for each in self.found}


def prepare(
    predictions: Predict,
    truth: Iterable[Phrase],
    train: Iterable[Phrase] | None,
    compare: None,
    split: str | None,
) -> PerturbedData:
    """Return the phrases of the split that have boxes; nothing is predicted yet."""
    target = phrases.select(truth, split)
    scored = [each for each in target.scored if each.boxes]
    training = phrases.select_training(train, scored, split)
    return PerturbedData(scored=scored, train=training, elsewhere=target.elsewhere, predict=predictions)


@dataclass(frozen=True, slots=True)
class Probes:
    """The protocol: the figures of each perturbation, as groups `probe:NAME`."""

    name: str = "probes"
    takes: Kind = "perturbations"

    def measure(self, data: PerturbedData) -> Sequence[Measured]:
        """Return the figures, with the baseline's IoU if there are training phrases."""
        fitted = baseline.fit_phrases(data.train) if data.train else None
        return [robustness.measure(data.found, None if fitted is None else fitted.box_of)]

    def galleries(self, data: PerturbedData) -> Galleries:
        """Return what makes pictures of a few phrases under each perturbation."""
        return partial(probe_pictures.galleries, data.found)


PROBES = Probes()
