"""Patient-level leakage checks, for training, calibration and scoring.

Two records are of the same patient if they share a subject_id or an image_id: either may lack the first.
The weights of a model carry a training record in their header. It holds `subjects`, the digests of all
patients and images that the model was trained on, and `leakage` if a training was allowed to leak.
(Older versions recorded an image only if its patient was unknown.)

A digest is the first 16 hexadecimal digits of the SHA-256 of an ID, the same on every machine. It is no
protection: anyone who has a list of IDs can match them.
"""

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Protocol, TypeVar

from medground.errors import MedgroundError

log = logging.getLogger(__name__)
DIGITS = 16
NAMES = {"train": "training", "val": "validation", "test": "test"}


class Imaged(Protocol):
    """Any record of a patient's image: Phrase, Pair, Anatomy, Grounding with its keys."""

    @property
    def subject_id(self) -> str | None:
        """The patient, if known."""

    @property
    def image_id(self) -> str:
        """The image."""


Item = TypeVar("Item", bound=Imaged)


@dataclass(frozen=True)
class Patients:
    """A set of patients; `record in patients` is True if any of the record's IDs is known.

    subjects, images: IDs as records state them. digests: those of both, from a model's training record.
    """

    subjects: frozenset[str] = frozenset()
    images: frozenset[str] = frozenset()
    digests: frozenset[str] = frozenset()

    @classmethod
    def of(cls, records: Iterable[Imaged]) -> "Patients":
        """Return the patients of these records. An empty subject_id is no patient."""
        known = [(each.subject_id, each.image_id) for each in records]
        return cls(
            frozenset(subject for subject, _ in known if subject), frozenset(image for _, image in known)
        )

    @classmethod
    def trained(cls, record: Mapping[str, Any]) -> "Patients":
        """Return the training patients that a model's training record names."""
        return cls(digests=frozenset(record.get("subjects") or ()))

    def __contains__(self, record: Imaged) -> bool:
        if record.subject_id in self.subjects or record.image_id in self.images:
            return True
        return bool(self.digests) and not self.digests.isdisjoint(digests_of([record]))


@dataclass(frozen=True)
class Leak:
    """Patients found on two sides that must share none: their number, the first ID, and the two sides."""

    count: int
    first: str
    where: str

    def __str__(self) -> str:
        patients = f"{self.count} subjects are" if self.count > 1 else "1 subject is"
        return f"{patients} in both {self.where} (first: {self.first})"


def digest_of(name: str) -> str:
    """Return the 16 hexadecimal digits for a subject_id or an image_id."""
    return hashlib.sha256(name.encode()).hexdigest()[:DIGITS]


def digests_of(records: Iterable[Imaged]) -> list[str]:
    """Return the digests of the records' subjects and images, each once, sorted."""
    return sorted({digest_of(name) for each in records for name in (each.subject_id, each.image_id) if name})


def overlap(records: Iterable[Imaged], patients: Patients, where: str) -> list[Leak]:
    """Return one leak if any of the records is of these patients, otherwise [].

    where: the two sides, for the message ("training and test").
    """
    both = sorted({each.subject_id or each.image_id for each in records if each in patients})
    return [Leak(len(both), both[0], where)] if both else []


def between(parts: Mapping[str, Sequence[Imaged]]) -> Iterator[Leak]:
    """Yield a leak for each two of the parts ("train", "val", "test") that share patients."""
    for one, other in combinations(parts, 2):
        yield from overlap(parts[other], Patients.of(parts[one]), f"{NAMES[one]} and {NAMES[other]}")


def with_model(parts: Mapping[str, Sequence[Imaged]], folder: Path) -> Iterator[Leak]:
    """Yield a leak for each part, except "train", with patients that the folder's model was trained on."""
    trained = Patients.trained(training_record(folder))
    for name, records in parts.items():
        if name != "train":
            yield from overlap(records, trained, f"{NAMES.get(name, name)} and the training data of {folder}")


def check(leaks: Iterable[Leak], allowed: bool, advice: str) -> bool:
    """Return whether there are leaks, each logged as a warning.

    Raises MedgroundError with the first leak and the advice, unless leaks are allowed.
    """
    found = list(leaks)
    if found and not allowed:
        raise MedgroundError(f"{found[0]}; {advice}")
    for leak in found:
        log.warning("%s; the model or the scores are marked with leakage", leak)
    return bool(found)


def without(records: Iterable[Item], held_out: Iterable[Imaged]) -> list[Item]:
    """Return the records in their order, except those of held-out patients.

    If any record of an image names its patient, that patient's other images are left out too.
    """
    records, out = list(records), Patients.of(held_out)
    named = {each.subject_id for each in records if each in out and each.subject_id}
    out = Patients(out.subjects | named, out.images)
    return [each for each in records if each not in out]


def training_record(folder: Path) -> dict[str, Any]:
    """Return the training record of the model, or export, in the folder.

    Warns if the record has no `subjects`. Raises MedgroundError if the folder holds no model.
    """
    from medground.model_dir import WEIGHTS, ModelDir

    found = ModelDir(folder).training_record()
    if found is None:
        raise MedgroundError(f"{folder}: no {WEIGHTS}; a model is a folder that holds one")
    if "subjects" not in found:
        log.warning("%s: the model does not record its training subjects; cannot check for leakage", folder)
    return found


def new_record(records: Iterable[Imaged], start: Path | None, leakage: bool) -> dict[str, Any]:
    """Return the training record of a model trained on these records, from the model in `start` if any.

    `subjects` includes those of the start. `leakage` is set if this training or an earlier one leaked.
    """
    from medground.model_dir import ModelDir

    before = (ModelDir(start).training_record() if start else None) or {}
    digests = sorted({*digests_of(records), *(before.get("subjects") or ())})
    return {"subjects": digests} | ({"leakage": True} if leakage or before.get("leakage") else {})


class Marked(Protocol):
    """Any record with extra keys, such as Grounding."""

    @property
    def extra(self) -> Mapping[str, Any]:
        """The keys that the record's class does not name."""


def is_marked(record: Mapping[str, Any], predictions: Iterable[Marked]) -> bool:
    """Return whether the model's training leaked, by its record or by the `leakage` key of its predictions.

    Warns if so, since every score of such a model is marked, on any patients.
    """
    marked = bool(record.get("leakage")) or any(each.extra.get("leakage") for each in predictions)
    if marked:
        log.warning("the model was trained on patients of its validation or test set: every score is marked")
    return marked


def warn_of_another_model(folder: Path, models: Iterable[str]) -> None:
    """Warn if the predictions are of other models than the folder's; `models` are their hashes."""
    from medground.model_dir import ModelDir

    files, made_by = ModelDir(folder), set(models)
    if files.has_weights and made_by and files.name not in made_by:
        log.warning("%s: not the model that made these predictions; leakage may be missed", files.weights)
