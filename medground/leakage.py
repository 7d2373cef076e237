"""Whom a model has seen, and whether those it is to be judged on are among them.

A model's record (in the header of its weights) holds `subjects`, the digests of all patients and images that
any of its trainings showed it (those of older versions have an image only where no patient was known), and
`leakage` where a training was allowed to go on with patients of validation or test among them.

Two records are of the same patient by their subject_id or by their image_id: either may lack the first.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar

from medground import subjects
from medground.errors import MedgroundError
from medground.model_dir import ModelDir
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


@dataclass(frozen=True)
class People:
    """Whom some records are of; a record is in it by its subject or by its image."""

    subjects: frozenset[str | None]
    images: frozenset[str]

    @classmethod
    def of(cls, records: Iterable[Imaged]) -> "People":
        """Those of the records; an empty subject_id names nobody."""
        known = [(each.subject_id or None, each.image_id) for each in records]
        return cls(frozenset(one for one, _ in known) - {None}, frozenset(image for _, image in known))

    def __contains__(self, record: Imaged) -> bool:
        return record.subject_id in self.subjects or record.image_id in self.images


def refuse_leaks(parts: Mapping[str, Sequence[Imaged]], start: Path | None, allowed: bool) -> bool:
    """Whether patients leak between the parts, or from what the model in `start` has seen.

    Where they do, MedgroundError names the first, unless it is allowed: then each leak is a warning.
    """
    leaks = [*between(parts), *(from_start(parts, start) if start else ())]
    if leaks and not allowed:
        raise MedgroundError(
            f"{leaks[0]}: split by subject, pretrain with --exclude-held-out, or give --allow-leakage"
        )
    for leak in leaks:
        log.warning("%s; allowed, and the model's record says so", leak)
    return bool(leaks)


def between(parts: Mapping[str, Sequence[Imaged]]) -> Iterator[Leak]:
    """A leak for each two parts that share patients; images stand in where no subject is known."""
    for one, other in combinations(parts, 2):
        met = People.of(parts[one])
        if both := sorted({_patient(each) for each in parts[other] if each in met}):
            yield Leak(len(both), both[0], f"in both {NAMES[one]} and {NAMES[other]}")


def from_start(parts: Mapping[str, Sequence[Imaged]], start: Path) -> Iterator[Leak]:
    """A leak for validation and for test where the model to go on from has seen patients of them."""
    record = _record_of(start)
    if "subjects" not in record:
        log.warning("%s: does not say whom it has seen; leakage from it cannot be checked", start)
        return
    seen = set(record["subjects"])
    for name in ("val", "test"):
        known = parts.get(name, ())
        if both := sorted(
            {_patient(each) for each in known if seen.intersection(subjects.digests_of([each]))}
        ):
            yield Leak(len(both), both[0], f"of {NAMES[name]} and among those that {start} was trained on")


def without(examples: Iterable[Person], held_out: Iterable[Imaged]) -> list[Person]:
    """The examples in their order, less those of patients who are held out.

    Where the example of an image says whose it is, that patient's other images are left out with it.
    """
    examples, out = list(examples), People.of(held_out)
    out = People(out.subjects | {each.subject_id for each in examples if each in out} - {None}, out.images)
    return [each for each in examples if each not in out]


def record(seen: Iterable[Imaged], start: Path | None, leakage: bool) -> dict[str, Any]:
    """The record of a model that these train: `subjects`, those of its start among them, and `leakage`
    where this training or one before it had some."""
    before = _record_of(start) if start else {}
    digests = sorted({*subjects.digests_of(seen), *before.get("subjects", ())})
    marked = leakage or bool(before.get("leakage"))
    return {"subjects": digests} | ({"leakage": True} if marked else {})


def _patient(record: Imaged) -> str:
    return record.subject_id or record.image_id


def _record_of(folder: Path) -> dict[str, Any]:
    return ModelDir(folder).training_record() or {}
