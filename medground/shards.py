"""Shards of the work for several machines: whole patients, distributed by a hash of their ID.

Shard i of n has the records whose patient hashes to i - 1 modulo n. This is the same in every run, on every
machine and for any order of the records. The shards of one n are disjoint and complete.
"""

import hashlib
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from medground.errors import MedgroundError

Record = TypeVar("Record")
Other = TypeVar("Other")
KEYS = ("subject_id", "study_id", "image_id", "phrase_id")


def patient_of(record: Any) -> str:
    """Return the patient's ID, or the nearest substitute: the study, the image, the phrase."""
    return next((value for value in (getattr(record, key, None) for key in KEYS) if value), "")


def number_of(key: str, count: int) -> int:
    """Return a number from 0 to count - 1. `p10000032` and `10000032` are one patient, as in MIMIC-CXR."""
    bare = key[1:] if key[:1] in ("p", "s") and key[1:].isdigit() else key
    digest = hashlib.blake2b(bare.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % count


@dataclass(frozen=True, slots=True)
class Shard:
    """Shard `number` of `count`, counted from 1; 1 of 1 is everything."""

    number: int = 1
    count: int = 1

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def holds(self, key: str) -> bool:
        """Return whether records with this key belong to the shard."""
        return number_of(key, self.count) == self.number - 1

    def keep(self, records: Iterable[Record], key: Callable[[Any], str] = patient_of) -> Iterator[Record]:
        """Yield the records of this shard, in order."""
        if self.count == 1:
            return iter(records)
        return (record for record in records if self.holds(key(record)))

    def keep_both(
        self, sentences: Iterable[Record], images: Iterable[Other]
    ) -> tuple[Iterator[Record], Iterator[Other]]:
        """Return this shard of two streams that are joined by study; records of one study are in the same
        shard.

        Streams are split by patient if the first record of both has one, otherwise by study. Raises
        MedgroundError for a later record without a patient: its study might be split.
        """
        if self.count == 1:
            return iter(sentences), iter(images)
        (first, all_sentences), (other, all_images) = _first(sentences), _first(images)
        named = all(each is None or getattr(each, "subject_id", None) for each in (first, other))
        key = _subject_of if named else _study_of
        return self.keep(all_sentences, key), self.keep(all_images, key)


def _first(records: Iterable[Record]) -> tuple[Record | None, Iterator[Record]]:
    """Return the first record (None if there is none) and an iterator over all of them."""
    rest = iter(records)
    first = next(rest, None)
    return first, rest if first is None else itertools.chain([first], rest)


def _subject_of(record: Any) -> str:
    if not record.subject_id:
        name = getattr(record, "path", None) or "a sentence"
        raise MedgroundError(f"{name}: no subject_id, though others have one; shards need it on every line")
    result: str = record.subject_id
    return result


def _study_of(record: Any) -> str:
    return record.study_id or patient_of(record)


def parse(text: str, environment: Mapping[str, str]) -> Shard:
    """Return the shard for "2/7", or for "slurm" in a job array or among the tasks of a job.

    Raises ValueError with a message that lists the valid forms.
    """
    if text == "slurm":
        return _of_slurm(environment)
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise ValueError("shards are counted from 1/N to N/N; or say slurm")
    return Shard(int(found[1]), int(found[2]))


def _of_slurm(environment: Mapping[str, str]) -> Shard:
    """Return the shard by the index in the job array, otherwise by the task number of `srun`."""

    def number(name: str, otherwise: str | None = None) -> int:
        value = environment.get(f"SLURM_{name}", otherwise)
        if value is None or not value.isdigit():
            raise ValueError(
                "slurm needs a job array, or srun: SLURM_ARRAY_TASK_ID and SLURM_PROCID are not set"
            )
        return int(value)

    if "SLURM_ARRAY_TASK_ID" not in environment:
        return Shard(number("PROCID") + 1, number("NTASKS"))
    first, count, step = number("ARRAY_TASK_MIN"), number("ARRAY_TASK_COUNT"), number("ARRAY_TASK_STEP", "1")
    last = number("ARRAY_TASK_MAX", str(first + (count - 1) * step))
    if last - first != (count - 1) * step:
        raise ValueError("the array is a part of another one; name the share: --shard I/N")
    return Shard((number("ARRAY_TASK_ID") - first) // step + 1, count)
