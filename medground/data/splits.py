"""Splits of phrases into training, validation and test, by patient.

A patient is a subject_id, or the image if a record has none. Random choices depend on the seed and the
records' ids, not on their order.
"""

import itertools
import logging
import random
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medground.datasets.mimic_cxr import subject_id
from medground.errors import MedgroundError
from medground.leakage import patients_of
from medground.records import Phrase

log = logging.getLogger(__name__)
# MIMIC-CXR has "validate", MS-CXR "val", Chest ImaGenome "valid".
VALIDATION = {"val", "valid", "validate", "validation"}
Parts = dict[str, list[Phrase]]  # "train", "val" and "test"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The options of a split: by `split` of the records, by lists of subjects, or by cross-validation.

    fold: the test part of the `num_folds` folds. num_phrases, subject_fraction: the size of the training
    part.
    """

    val_subjects: Path | None = None
    test_subjects: Path | None = None
    num_folds: int | None = None
    fold: int | None = None
    num_phrases: int | None = None
    subject_fraction: float | None = None
    seed: int = 0


def split(phrases: Iterable[Phrase], how: Choice) -> Parts:
    """Return the phrases by part; each phrase is in one part."""
    if how.num_folds and how.fold:
        parts = by_fold(phrases, how.num_folds, how.fold, how.seed)
    else:
        val, test = (subjects_in(path) if path else None for path in (how.val_subjects, how.test_subjects))
        parts = by_split(phrases, val, test)
    if how.subject_fraction:
        parts["train"] = fraction(parts["train"], how.subject_fraction, how.seed)
    if how.num_phrases:
        parts["train"] = few(parts["train"], how.num_phrases, how.seed)
    return parts


def subjects_in(path: Path) -> set[str]:
    """Return the subject_ids of a file, one per line; empty lines and comments after # are ignored."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise MedgroundError(f"{path}: not a text file; expected one subject_id per line") from None
    if not (names := {name for line in lines if (name := line.partition("#")[0].strip())}):
        raise MedgroundError(f"{path}: has no subject_id; expected one per line")
    return names


def by_split(
    phrases: Iterable[Phrase], val: Collection[str] | None = None, test: Collection[str] | None = None
) -> Parts:
    """Return the phrases by their `split`: train if it is missing, test if it is unknown.

    If `val` or `test` is given, its subjects replace the `split` of the records for that part, and other
    phrases of that part become training phrases. Subject numbers may have MIMIC's prefix p or not. Raises
    MedgroundError if a list matches no phrase.
    """
    val, test = (None if each is None else {subject_id(name) for name in each} for each in (val, test))
    if both := set(val or ()) & set(test or ()):
        raise MedgroundError(f"{len(both)} subjects are on both lists, for val and for test")
    parts: Parts = {"train": [], "val": [], "test": []}
    for phrase in phrases:
        parts[_part_of(phrase, val, test)].append(phrase)
    for name, listed in (("val", val), ("test", test)):
        if listed and not parts[name]:
            raise MedgroundError(
                f"no phrase is of a subject on the list for {name}; are subject_ids written there as in the "
                "records?"
            )
    return parts


def _part_of(phrase: Phrase, val: Collection[str] | None, test: Collection[str] | None) -> str:
    patient = subject_id(patient_of(phrase))
    if test is not None and patient in test:
        return "test"
    if val is not None and patient in val:
        return "val"
    own = "val" if phrase.split in VALIDATION else "train" if phrase.split in (None, "", "train") else "test"
    replaced = (own == "val" and val is not None) or (own == "test" and test is not None)
    return "train" if replaced else own


def by_fold(phrases: Iterable[Phrase], count: int, fold: int, seed: int) -> Parts:
    """Return the phrases for cross-validation: fold `fold` of 1 to `count` is test, the next one validation.

    Other folds are training; the `split` of the records is ignored. `count` is at least 3.
    """
    listed = list(phrases)
    fold_of = folds(listed, count, seed)
    role = {fold - 1: "test", fold % count: "val"}
    parts: Parts = {"train": [], "val": [], "test": []}
    for phrase, patient in zip(listed, patients_of(listed), strict=True):
        parts[role.get(fold_of[patient], "train")].append(phrase)
    return parts


def folds(phrases: Sequence[Phrase], count: int, seed: int) -> dict[str, int]:
    """Return the fold, 0 to count - 1, of each patient, stratified by category."""
    counts = _categories_of_patients(phrases)
    if len(counts) < count:
        raise MedgroundError(f"{count} folds need at least as many patients; there are {len(counts)}")
    return _spread(counts, [1 / count] * count, seed)


def fraction(phrases: Sequence[Phrase], share: float, seed: int) -> list[Phrase]:
    """Return the phrases of some patients, in order: about this share of each category's phrases.

    At least one patient is taken if there is any.
    """
    if share >= 1 or not phrases:
        return list(phrases)
    part_of = _spread(_categories_of_patients(phrases), [share, 1 - share], seed)
    if 0 not in part_of.values():
        part_of[_shuffled(part_of, seed)[0]] = 0
    owned = zip(phrases, patients_of(phrases), strict=True)
    return [phrase for phrase, patient in owned if part_of[patient] == 0]


def _spread(counts: Mapping[str, Counter[str]], shares: Sequence[float], seed: int) -> dict[str, int]:
    """Return the part of each patient, so that every part gets its share of each category.

    Greedy: patients with the rarest categories and the most phrases come first. Each goes to the part that
    lacks most of the patient's categories (after Sechidis et al. 2011, with patients instead of labels).
    """
    whole = Counter[str]()
    for own in counts.values():
        whole.update(own)
    queue = _shuffled(counts, seed)
    queue.sort(key=lambda patient: (min(whole[name] for name in counts[patient]), -counts[patient].total()))
    held = [Counter[str]() for _ in shares]
    patients = [0.0] * len(shares)  # in shares, to break ties
    part_of = {}
    for patient in queue:
        own = counts[patient]
        # the increase of sum(held^2 / wanted) if the patient is added
        cost = [
            sum(n * (2 * each[name] + n) / (share * whole[name]) for name, n in own.items())
            for each, share in zip(held, shares, strict=True)
        ]
        part = min(range(len(shares)), key=lambda number: (cost[number], patients[number], number))
        held[part].update(own)
        patients[part] += 1 / shares[part]
        part_of[patient] = part
    return part_of


def few(phrases: list[Phrase], count: int, seed: int) -> list[Phrase]:
    """Return `count` random single-box phrases, balanced over categories, in their order.

    All are returned, with a warning, if there are fewer.
    """
    groups: dict[str, list[Phrase]] = defaultdict(list)
    for phrase in phrases:
        if phrase.boxes and len(phrase.boxes) == 1:
            groups[phrase.category or ""].append(phrase)
    draw = random.Random(seed)
    shuffled = [draw.sample(groups[name], len(groups[name])) for name in sorted(groups)]
    turns = itertools.chain.from_iterable(itertools.zip_longest(*shuffled))
    drawn = itertools.islice((t for t in turns if t is not None), count)
    chosen = {(each.image_id, each.phrase_id) for each in drawn}
    if len(chosen) < count:
        log.warning("--num-phrases %d: only %d phrases have one box", count, len(chosen))
    return [phrase for phrase in phrases if (phrase.image_id, phrase.phrase_id) in chosen]


def patient_of(phrase: Phrase) -> str:
    """Return the subject_id of the phrase, or its image_id."""
    return phrase.subject_id or phrase.image_id


def _categories_of_patients(phrases: Sequence[Phrase]) -> Mapping[str, Counter[str]]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for phrase, patient in zip(phrases, patients_of(phrases), strict=True):
        counts[patient][phrase.category or ""] += 1
    return counts


def _shuffled(patients: Iterable[str], seed: int) -> list[str]:
    return random.Random(seed).sample(listed := sorted(patients), len(listed))
