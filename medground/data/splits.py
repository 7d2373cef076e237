"""Which phrases train, which validate and which are held out, always by patient.

A patient is a subject_id or, where a record has none, its image. Whatever is drawn follows from the seed and
the records' ids, not from their order.
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
from medground.records import Phrase

log = logging.getLogger(__name__)
# MIMIC-CXR says "validate", MS-CXR says "val", Chest ImaGenome says "valid".
VALIDATION = {"val", "valid", "validate", "validation"}
Parts = dict[str, list[Phrase]]  # "train", "val" and "test"; what is in "test" is never shown to a model


@dataclass(frozen=True, kw_only=True)
class Choice:
    """How to split: by `split` of the records, by lists of subjects, or in `num_folds` with `fold` as test
    part; and how much of the training part to keep: `num_phrases`, or a `subject_fraction`."""

    val_subjects: Path | None = None
    test_subjects: Path | None = None
    num_folds: int | None = None
    fold: int | None = None
    num_phrases: int | None = None
    subject_fraction: float | None = None
    seed: int = 0


def split(phrases: Iterable[Phrase], how: Choice) -> Parts:
    """The phrases in their parts; no phrase is in two, and patients are only where the choice sees to it."""
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
    """The subject_ids of a list, one a line; empty lines and what follows a # do not count."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise MedgroundError(f"{path}: not text; want one subject_id a line") from None
    if not (names := {name for line in lines if (name := line.partition("#")[0].strip())}):
        raise MedgroundError(f"{path}: no subject in it; want one subject_id a line")
    return names


def by_split(
    phrases: Iterable[Phrase], val: Collection[str] | None = None, test: Collection[str] | None = None
) -> Parts:
    """The phrases by their own `split`; without one they train, with one that is not known here they test.

    The subjects of `val` and `test`, where given, take the place of the records' own word for that part: who
    is on no list then trains, unless the other part's own word stands and says otherwise. Numbers are alike
    with and without MIMIC's p before them. Raises MedgroundError where no phrase is of anyone on a list.
    """
    val, test = (None if each is None else {subject_id(name) for name in each} for each in (val, test))
    if both := sorted(set(val or ()) & set(test or ())):
        raise MedgroundError(f"{len(both)} subjects are on both lists (first: {both[0]})")
    parts: Parts = {"train": [], "val": [], "test": []}
    for phrase in phrases:
        parts[_part_of(phrase, val, test)].append(phrase)
    for name, listed in (("val", val), ("test", test)):
        if listed and not parts[name]:
            raise MedgroundError(
                f"no phrase is of a subject on the list for {name} (first: {min(listed)}); are subject_ids "
                "written there as in the records?"
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
    """The phrases for cross-validation: fold `fold` of 1 to `count` tests, the one after it validates.

    All others train; the records' own `split` is not looked at. `count` is at least 3.
    """
    listed = list(phrases)
    fold_of = folds(listed, count, seed)
    role = {fold - 1: "test", fold % count: "val"}
    parts: Parts = {"train": [], "val": [], "test": []}
    for phrase in listed:
        parts[role.get(fold_of[patient_of(phrase)], "train")].append(phrase)
    return parts


def folds(phrases: Iterable[Phrase], count: int, seed: int) -> dict[str, int]:
    """The fold, 0 to count - 1, of each patient: categories as evenly spread as the patients allow."""
    brought = _categories_of_patients(phrases)
    if len(brought) < count:
        raise MedgroundError(f"{count} folds need at least as many patients; there are {len(brought)}")
    return _spread(brought, [1 / count] * count, seed)


def fraction(phrases: Sequence[Phrase], share: float, seed: int) -> list[Phrase]:
    """The phrases of some patients, in their first order: about this share of each category's phrases.

    At least one patient is taken, where there is any.
    """
    if share >= 1 or not phrases:
        return list(phrases)
    part_of = _spread(_categories_of_patients(phrases), [share, 1 - share], seed)
    if 0 not in part_of.values():
        part_of[_shuffled(part_of, seed)[0]] = 0
    return [phrase for phrase in phrases if part_of[patient_of(phrase)] == 0]


def _spread(brought: Mapping[str, Counter[str]], shares: Sequence[float], seed: int) -> dict[str, int]:
    """The part of each patient, such that every part gets its share of each category.

    Greedy: patients with the rarest categories and the most phrases choose first, each the part that lacks
    most of what they bring (after Sechidis et al. 2011, with patients for their labels).
    """
    whole = Counter[str]()
    for own in brought.values():
        whole.update(own)
    queue = _shuffled(brought, seed)
    queue.sort(key=lambda patient: (min(whole[name] for name in brought[patient]), -brought[patient].total()))
    held = [Counter[str]() for _ in shares]
    patients = [0.0] * len(shares)  # in shares, for parts that are even otherwise
    part_of = {}
    for patient in queue:
        own = brought[patient]
        # what sum(held^2 / wanted) grows by when the patient joins: least where most is missing
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
    """`count` of the single-box phrases, as even over the categories as they allow, drawn with the seed.

    They come in their first order. All are kept, with a warning, where there are not so many.
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
        log.warning("asked for %d phrases, there are %d with one box", count, len(chosen))
    return [phrase for phrase in phrases if (phrase.image_id, phrase.phrase_id) in chosen]


def patient_of(phrase: Phrase) -> str:
    """Who the phrase is about, or its image where nobody says."""
    return phrase.subject_id or phrase.image_id


def _categories_of_patients(phrases: Iterable[Phrase]) -> Mapping[str, Counter[str]]:
    brought: dict[str, Counter[str]] = defaultdict(Counter)
    for phrase in phrases:
        brought[patient_of(phrase)][phrase.category or ""] += 1
    return brought


def _shuffled(patients: Iterable[str], seed: int) -> list[str]:
    return random.Random(seed).sample(listed := sorted(patients), len(listed))
