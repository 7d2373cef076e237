"""Whom a model has seen, and whether those it is to be judged on are among them.

A model's record (in the header of its weights) holds `subjects`, the digests of all patients that any of its
trainings showed it, and `leakage` where a training was allowed to go on with patients of validation or test
among them.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar

from medground import checkpoints, subjects
from medground.errors import MedgroundError
from medground.models import grounder
from medground.subjects import Imaged

log = logging.getLogger(__name__)
Person = TypeVar("Person", bound=Imaged)
NAMES = {"train": "training", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class Leak:
    """Patients that should not be there: how many, the first of them, and where they were found."""

    count: int
    first: str
    where: str

    def __str__(self) -> str:
        many = f"{self.count} subjects are" if self.count > 1 else "1 subject is"
        return f"{many} {self.where} (first: {self.first})"


def refuse_leaks(parts: Mapping[str, Sequence[Imaged]], start: Path | None, allowed: bool) -> bool:
    """Whether patients leak between the parts, or from what the model in `start` has seen.

    Where they do, MedgroundError names the first, unless it is allowed: then each leak is a warning.
    """
    leaks = [*between(parts), *(from_start(parts, start) if start else ())]
    if leaks and not allowed:
        raise MedgroundError(
            f"{leaks[0]}: split by subject, pretrain with --leave-out, or mark all with --allow-leakage"
        )
    for leak in leaks:
        log.warning("%s; allowed, and the model's record says so", leak)
    return bool(leaks)


def between(parts: Mapping[str, Sequence[Imaged]]) -> Iterator[Leak]:
    """A leak for each two parts that share patients; images stand in where no subject is known."""
    patients = {name: {_patient(each) for each in records} for name, records in parts.items()}
    for one, other in combinations(patients, 2):
        if both := sorted(patients[one] & patients[other]):
            yield Leak(len(both), both[0], f"in both {NAMES[one]} and {NAMES[other]}")


def from_start(parts: Mapping[str, Sequence[Imaged]], start: Path) -> Iterator[Leak]:
    """A leak for validation and for test where the model to go on from has seen patients of them."""
    record = record_of(start)
    if "subjects" not in record:
        log.warning("%s: does not say whom it has seen; leakage from it cannot be checked", start)
        return
    seen = set(record["subjects"])
    for name in ("val", "test"):
        known = {_patient(each) for each in parts.get(name, ())}
        if both := sorted(each for each in known if subjects.digest_of(each) in seen):
            yield Leak(len(both), both[0], f"of {NAMES[name]} and among those that {start} was trained on")


def without(examples: Iterable[Person], held_out: Iterable[Imaged]) -> list[Person]:
    """The examples in their order, less those of patients who are held out."""
    patients = {_patient(each) for each in held_out}
    return [each for each in examples if _patient(each) not in patients]


def record_of(folder: Path) -> dict[str, Any]:
    """What the training of a folder's model left in the header of its weights."""
    config = checkpoints.read_config(folder / grounder.WEIGHTS)
    return config.get("record", {})


def record(seen: Iterable[Imaged], start: Path | None, leakage: bool) -> dict[str, Any]:
    """The record of a model that these train: `subjects`, those of its start among them, and `leakage`
    where this training or one before it had some."""
    before = record_of(start) if start else {}
    digests = sorted({*subjects.digests_of(seen), *before.get("subjects", ())})
    marked = leakage or bool(before.get("leakage"))
    return {"subjects": digests} | ({"leakage": True} if marked else {})


def _patient(record: Imaged) -> str:
    return record.subject_id or record.image_id
