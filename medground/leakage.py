"""Patient-level leakage checks, for training, calibration and scoring.

Two records are of the same patient if they share a subject_id or an image_id: either may lack the first.
`p10000032` and `10000032` are one subject_id: tables of MIMIC-CXR have numbers, and its folders the letter.
The weights of a model carry a training record in their header:

    subjects    digests of all patients and images that the model was trained on
    key         the name of the site key that made them; "public" for IDs of published data, which need none;
                without it they are unkeyed, of an older version
    earlier     a list of `subjects` and `key` with other keys, of the models that training started from
    incomplete  true if a model that training started from had no record
    leakage     true if a training was allowed to leak

`pretrain --no-record` and `finetune --no-record` leave out all but `leakage`. (Older versions recorded an
image only if its patient was unknown.)
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Protocol, TypeVar

from medground import site_key
from medground.errors import MedgroundError

log = logging.getLogger(__name__)
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
class Hashed:
    """The digests of a training record that were made with one key."""

    digest: Callable[[str], str]
    digests: frozenset[str]

    def holds(self, name: str) -> bool:
        """Return whether the ID of a subject or an image is among them."""
        return self.digest(name) in self.digests


@dataclass(frozen=True)
class Patients:
    """A set of patients; `record in patients` is True if any of the record's IDs is known.

    subjects: IDs without MIMIC-CXR's letter. images: IDs as records state them. hashed: digests of both,
    from a model's training record.
    """

    subjects: frozenset[str] = frozenset()
    images: frozenset[str] = frozenset()
    hashed: tuple["Hashed", ...] = ()

    @classmethod
    def of(cls, records: Iterable[Imaged]) -> "Patients":
        """Return the patients of these records. An empty subject_id is no patient."""
        known = [(each.subject_id, each.image_id) for each in records]
        return cls(
            frozenset(bare(subject) for subject, _ in known if subject),
            frozenset(image for _, image in known),
        )

    @classmethod
    def trained(cls, record: Mapping[str, Any]) -> "Patients":
        """Return the training patients of a model's training record, except those of other site keys."""
        own, parts = site_key.find(), _parts(record)
        anyone = site_key.unkeyed_digest
        digests = {None: anyone, site_key.PUBLIC: anyone} | ({own.name: own.digest} if own else {})
        return cls(hashed=tuple(Hashed(digests[key], parts[key]) for key in parts.keys() & digests.keys()))

    def __contains__(self, record: Imaged) -> bool:
        if bare(record.subject_id or "") in self.subjects or record.image_id in self.images:
            return True
        return any(each.holds(name) for each in self.hashed for name in _spellings(record))


@dataclass(frozen=True)
class Leak:
    """Patients found on two sides that must share none: their number, the sides, and the first record of one.

    The message contains no ID, because logs are copied into tickets.
    """

    count: int
    where: str
    first: int
    side: str

    def __str__(self) -> str:
        patients = f"{self.count} subjects are" if self.count > 1 else "1 subject is"
        return f"{patients} in both {self.where} (first: record {self.first} of {self.side})"


def digests_of(records: Iterable[Imaged], key: site_key.SiteKey) -> frozenset[str]:
    """Return the digests of the records' subjects and images."""
    return frozenset(map(key.digest, {name for each in records for name in _names(each)}))


def public_digests(records: Iterable[Imaged]) -> list[str]:
    """Return the digests of subjects and images of published data, for the key `site_key.PUBLIC`."""
    return sorted({site_key.unkeyed_digest(name) for each in records for name in _names(each)})


def _names(record: Imaged) -> list[str]:
    return [name for name in (record.subject_id, record.image_id) if name]


def bare(subject: str) -> str:
    """Return a subject_id without MIMIC-CXR's letter."""
    return subject[1:] if subject[:1] == "p" and subject[1:].isdigit() else subject


def patients_of(records: Iterable[Imaged]) -> list[str]:
    """Return the patient of each record: its subject_id, or its image_id if it has none.

    p10000032 and 10000032 are one patient, with the name that is first in order.
    """
    known = [(each.subject_id, each.image_id) for each in records]
    names: dict[str, str] = {}
    for subject, _ in known:
        if subject:
            names[bare(subject)] = min(subject, names.get(bare(subject), subject))
    return [names[bare(subject)] if subject else image for subject, image in known]


def _spellings(record: Imaged) -> list[str]:
    """Return the IDs of a record, with both spellings of its subject's."""
    number = bare(record.subject_id or "")
    return _names(record) + ([number, f"p{number}"] if number.isdigit() else [])


def _parts(record: Mapping[str, Any]) -> dict[str | None, frozenset[str]]:
    """Return the digests of a training record by the name of their key; None for unkeyed ones.

    Raises MedgroundError for a record of another form: models come from strangers.
    """
    found: dict[str | None, frozenset[str]] = {}
    try:
        for part in (record, *(record.get("earlier") or ())):
            key, digests = part.get("key"), part.get("subjects") or []
            if not (isinstance(digests, list) and all(isinstance(each, str) for each in digests)):
                raise TypeError
            if digests:
                found[key] = found.get(key, frozenset()).union(digests)
    except (TypeError, AttributeError):
        raise MedgroundError("damaged training record; copy the model folder again") from None
    return found


def overlap(records: Iterable[Imaged], patients: Patients, where: str, side: str) -> list[Leak]:
    """Return one leak if any of the records is of these patients, otherwise [].

    where, side: the two sides ("training and test") and the records' own ("test"), for the message.
    """
    both = [(n, each) for n, each in enumerate(records, start=1) if each in patients]
    names = {bare(each.subject_id or "") or each.image_id for _, each in both}
    return [Leak(len(names), where, both[0][0], side)] if both else []


def between(parts: Mapping[str, Sequence[Imaged]]) -> Iterator[Leak]:
    """Yield a leak for each two of the parts ("train", "val", "test") that share patients."""
    for one, other in combinations(parts, 2):
        yield from overlap(
            parts[other], Patients.of(parts[one]), f"{NAMES[one]} and {NAMES[other]}", NAMES[other]
        )


def with_model(parts: Mapping[str, Sequence[Imaged]], folder: Path) -> Iterator[Leak]:
    """Yield a leak for each part, except "train", with patients that the folder's model was trained on."""
    trained = Patients.trained(training_record(folder))
    for name, records in parts.items():
        if name != "train":
            side = NAMES.get(name, name)
            yield from overlap(records, trained, f"{side} and the training data of {folder}", side)


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
    records = list(records)
    out = whole_patients(records, held_out)
    return [each for each in records if each not in out]


def whole_patients(records: Iterable[Imaged], held_out: Iterable[Imaged]) -> "Patients":
    """Return the held-out patients, also those that only an image of the records names."""
    out = Patients.of(held_out)
    named = {bare(each.subject_id) for each in records if each in out and each.subject_id}
    return Patients(out.subjects | named, out.images)


def training_record(folder: Path) -> dict[str, Any]:
    """Return the training record of the model, or export, in the folder.

    Warns if it is missing or cannot be checked here. Raises MedgroundError if the folder holds no model.
    """
    from medground.model_dir import WEIGHTS, ModelDir

    found = ModelDir(folder).training_record()
    if found is None:
        raise MedgroundError(f"{folder}: no {WEIGHTS}; a model is a folder that holds one")
    for warning in _doubts(found):
        log.warning("%s: %s", folder, warning)
    return found


def _doubts(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a reader has to know of a training record before relying on a check for leakage."""
    keys, own = _parts(record).keys(), site_key.find()
    if record.get("subjects") is None:
        yield "the model does not record its training subjects; cannot check for leakage"
    elif record.get("incomplete"):
        yield "the model records only some of its training subjects; leakage may be missed"
    if keys - {None, site_key.PUBLIC, own and own.name}:
        has = "has another key" if own else "does not exist"
        yield (
            f"its training subjects are hashed with a site key and {site_key.path()} {has}; cannot check for "
            f"leakage: name that key with {site_key.VARIABLE}"
        )
    if None in keys:
        yield (
            "its training subjects are hashed without a site key, so anyone with a list of IDs can recover "
            "them; do not publish it except with medground export --public"
        )


def public_part(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a published model keeps of its training record: the mark of leakage."""
    return {"leakage": True} if record.get("leakage") else {}


def new_record(
    records: Iterable[Imaged], start: Path | None, leakage: bool, keep: bool = True
) -> dict[str, Any]:
    """Return the training record of a model trained on these records, from the model in `start` if any.

    Subjects of the start are included, with their own key. `leakage` is set if this training or an earlier
    one leaked. `keep` False leaves out all subjects. Creates the site key if there is none.
    """
    from medground.model_dir import ModelDir

    before = (ModelDir(start).training_record() if start else None) or {}
    mark = public_part({"leakage": leakage or before.get("leakage")})
    if not keep:
        return mark
    key, parts = site_key.find_or_create(), _parts(before)
    own = digests_of(records, key) | parts.pop(key.name, frozenset())
    record: dict[str, Any] = {"subjects": sorted(own), "key": key.name}
    if parts:
        record["earlier"] = [{"key": name, "subjects": sorted(each)} for name, each in parts.items()]
    if start and (before.get("subjects") is None or before.get("incomplete")):
        record["incomplete"] = True
    return record | mark


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
