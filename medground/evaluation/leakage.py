"""Whether those who are scored were trained on: a score on patients that a model has seen says little.

A phrase stands for its subject and its image: either may be what the training knew.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medground import subjects
from medground.errors import MedgroundError
from medground.records import Anatomy, Grounding, Phrase

log = logging.getLogger(__name__)
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


def record_of_model(folder: Path) -> dict[str, Any]:
    """What the training of the model, or export, in this folder left: `subjects`, the digests of whom it has
    seen, and `leakage`. Without the first there is a warning."""
    from medground import checkpoints
    from medground.model_dir import ModelDir

    record = ModelDir(folder).training_record()
    if record is None:
        raise MedgroundError(f"{folder}: no {checkpoints.WEIGHTS}; a model is a folder that holds one")
    if "subjects" not in record:
        log.warning("%s: does not say whom it was trained on, so leakage cannot be ruled out", folder)
    return record


def audit(found: Sequence[tuple[str, list[str]]], allowed: bool) -> bool:
    """True where patients leak, from any of the (place, names) found; raises unless that is allowed."""
    leaks = [(place, names) for place, names in found if names]
    for place, names in leaks:
        message = f"{len(names)} patients or images that are scored are in {place} (first: {names[0]})"
        if not allowed:
            raise MedgroundError(f"{message}; leave them out of one, or say --allow-leakage")
        log.warning("%s: every score is marked with leakage", message)
    return bool(leaks)


def is_marked(record: Mapping[str, Any], answers: Iterable[Grounding]) -> bool:
    """Whether the model's training was allowed to leak, by its own record or by what its answers carry; so
    every score of it bears the mark, whoever is scored."""
    marked = bool(record.get("leakage")) or any(each.extra.get("leakage") for each in answers)
    if marked:
        log.warning("a training of the model had patients of its validation or test: every score is marked")
    return marked


def warn_of_another_model(folder: Path | None, models: set[str]) -> None:
    """Say so where the answers come from other models than that of the folder; `models` are their hashes."""
    from medground import checkpoints

    path = folder / checkpoints.WEIGHTS if folder else None
    if path and path.is_file() and models and checkpoints.hash_of(path) not in models:
        log.warning("%s: not the model that made these answers; the audit may be of another training", folder)
