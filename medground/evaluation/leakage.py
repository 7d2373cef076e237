"""Whether those who are scored were trained on: a score on patients that a model has seen says little.

A phrase stands for its subject and its image: either may be what the training knew.
"""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from medground import subjects
from medground.errors import MedgroundError
from medground.records import Anatomy, Phrase

log = logging.getLogger(__name__)
WEIGHTS = "model.safetensors"
Items = Iterable[Phrase | Anatomy]


def shared(train: Items, scored: Items) -> list[str]:
    """The subjects and images that are in both, sorted."""
    return subjects.overlap(_identities(train), _identities(scored))


def check(scored: Items, digests: Iterable[str]) -> list[str]:
    """The subjects and images among the scored ones whose digest is one of these, sorted."""
    known = frozenset(digests)
    return sorted(name for name in _identities(scored) if subjects.digest_of(name) in known)


def _identities(items: Items) -> set[str]:
    return {name for each in items for name in (each.subject_id, each.image_id) if name}


def digests_of_model(folder: Path) -> list[str] | None:
    """The digests of whom the model in this folder was trained on; None, with a warning, if unknown."""
    from medground import checkpoints

    path = folder / WEIGHTS
    if not path.is_file():
        raise MedgroundError(f"{folder}: no {WEIGHTS}; a model is a folder that holds one")
    known = (checkpoints.read_config(path).get("record") or {}).get("subjects")
    if known is None:
        log.warning("%s: does not say whom it was trained on, so leakage cannot be ruled out", folder)
    return known


def audit(found: Sequence[tuple[str, list[str]]], allowed: bool) -> bool:
    """True where patients leak, from any of the (place, names) found; raises unless that is allowed."""
    leaks = [(place, names) for place, names in found if names]
    for place, names in leaks:
        message = f"{len(names)} patients or images that are scored are in {place} (first: {names[0]})"
        if not allowed:
            raise MedgroundError(f"{message}; leave them out of one, or say --allow-leakage")
        log.warning("%s: every score is marked with leakage", message)
    return bool(leaks)


def warn_of_another_model(folder: Path | None, models: set[str]) -> None:
    """Say so where the answers come from other models than that of the folder; `models` are their hashes."""
    from medground import checkpoints

    if folder is not None and models and checkpoints.hash_of(folder / WEIGHTS) not in models:
        log.warning("%s: not the model that made these answers; the audit may be of another training", folder)
