"""Several models on the same phrases: scores of each, and paired differences to a reference.

`p_holm` is the p-value of a difference, corrected by Holm's method for the number of models that are
compared with the reference (Holm, Scandinavian Journal of Statistics 6, 1979). A family is one metric of one
group of one protocol. Differences between groups or metrics are not corrected for.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from medground.errors import MedgroundError
from medground.evaluation import front
from medground.evaluation.protocols import Protocol
from medground.records import Grounding, Phrase, Score

DIFFERENCE, OTHER = "difference_", "other_"


def compare(
    models: Mapping[str, Iterable[Grounding]],
    truth: Iterable[Phrase],
    protocols: Sequence[str | Protocol] = ("single-box",),
    train: Iterable[Phrase] | None = None,
    *,
    reference: str | None = None,
    draws: int = 10_000,
    seed: int = 0,
    split: str | None = None,
    allow_leakage: bool = False,
) -> list[Score]:
    """Return the scores of each model, and of each but the reference the paired differences to it.

    models: the predictions of at least two models, under their names. reference: one of the names (None: the
    first). Other arguments are those of `evaluate`. A score has the key `name`; a difference also has
    `reference`, `p` and `p_holm`. All models are scored with the same draws of patients.

    Raises MedgroundError for fewer than two models, an unknown reference, and what `evaluate` refuses.
    """
    if len(models) < 2:
        raise MedgroundError("a comparison needs the predictions of at least two models")
    base = next(iter(models)) if reference is None else reference
    if base not in models:
        raise MedgroundError(f"reference {base!r}: not among the models ({', '.join(models)})")
    kept = {name: records if isinstance(records, list) else list(records) for name, records in models.items()}
    known = truth if isinstance(truth, list) else list(truth)
    training = train if train is None or isinstance(train, list) else list(train)
    found: list[Score] = []
    for name, records in kept.items():
        scores = front.evaluate(
            records,
            known,
            protocols,
            training,
            compare=None if name == base else kept[base],
            draws=draws,
            seed=seed,
            split=split,
            allow_leakage=allow_leakage,
        )
        found += [_named(each, name, base) for each in scores if not each.metric.startswith(OTHER)]
    return _corrected(found)


def _named(score: Score, name: str, base: str) -> Score:
    own = {"name": name}
    if score.metric.startswith(DIFFERENCE):
        own["reference"] = base
    return replace(score, extra=own | score.extra)


def _corrected(scores: list[Score]) -> list[Score]:
    """Return the scores with `p_holm` for each that has `p`."""
    families: dict[tuple[str, str, str], list[int]] = {}
    for place, each in enumerate(scores):
        if "p" in each.extra:
            families.setdefault((each.protocol, each.metric, each.group), []).append(place)
    result = list(scores)
    for places in families.values():
        for place, p in zip(places, holm([scores[each].extra["p"] for each in places]), strict=True):
            result[place] = replace(scores[place], extra=_after_p(scores[place].extra, p))
    return result


def _after_p(extra: Mapping[str, Any], p: float) -> dict[str, Any]:
    changed = {}
    for key, value in extra.items():
        changed[key] = value
        if key == "p":
            changed["p_holm"] = round(p, 6)
    return changed


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's corrected p-values, at most 1, in the order of the p-values."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected
