"""Checks of what fits together; the commands make them before they read anything."""

from collections.abc import Collection, Iterable

from medground.errors import MedgroundError
from medground.registry.entries import one_of
from medground.registry.objectives import OBJECTIVES
from medground.registry.tables import ARCHITECTURES


def check_losses(
    objectives: Iterable[str],
    weights: Collection[str],
    architecture: str,
    features: frozenset[str] | None = None,
) -> None:
    """Raise MedgroundError if objectives do not fit together or the architecture, or if a weight has no loss.

    weights: the names of losses. features: those of the network, if it lacks some of its architecture's.
    """
    names = list(dict.fromkeys(objectives))
    if features is None:
        features = ARCHITECTURES[architecture].features
    for name in names:
        _check_architecture(name, architecture, features)
    losses = [loss for name in names for loss in OBJECTIVES[name].weights(features)]
    if doubled := sorted(name for name in set(losses) if losses.count(name) > 1):
        raise MedgroundError(f"two objectives have a loss {doubled[0]!r}; give one of them")
    if unknown := sorted(set(weights) - set(losses)):
        known = ", ".join(sorted(losses))
        raise MedgroundError(f"--loss-weight {unknown[0]}: no loss {unknown[0]!r}; the losses are {known}")


def _check_architecture(objective: str, architecture: str, features: frozenset[str]) -> None:
    required = OBJECTIVES[objective].requires
    if required and required not in ARCHITECTURES[architecture].features:
        fit = [name for name, entry in ARCHITECTURES.items() if required in entry.features]
        raise MedgroundError(f"--objective {objective} requires --architecture {one_of(fit)}")
    if required and required not in features:  # only soft tokens, which depend on the norm
        raise MedgroundError(f"--objective {objective} requires --norm post")
