"""Which phrases train, which validate, and a few of them for few-shot training."""

import itertools
import logging
import random
from collections import defaultdict
from collections.abc import Iterable

from medground.errors import MedgroundError
from medground.records import Phrase

log = logging.getLogger(__name__)
# MIMIC-CXR says "validate", MS-CXR says "val", Chest ImaGenome says "valid".
VALIDATION = {"val", "valid", "validate", "validation"}


def by_split(phrases: Iterable[Phrase]) -> dict[str, list[Phrase]]:
    """The phrases of "train" (a missing split counts as train) and of "val"; no subject may be in both."""
    parts: dict[str, list[Phrase]] = {"train": [], "val": []}
    for phrase in phrases:
        if phrase.split in VALIDATION:
            parts["val"].append(phrase)
        elif phrase.split in (None, "", "train"):
            parts["train"].append(phrase)
    check_apart(parts["train"], parts["val"])
    return parts


def check_apart(train: Iterable[Phrase], validation: Iterable[Phrase]) -> None:
    """Raise MedgroundError when a subject (or, without subjects, an image) is in both."""
    ids = {each.subject_id or each.image_id for each in train}
    if both := sorted(ids & {each.subject_id or each.image_id for each in validation}):
        raise MedgroundError(
            f"{len(both)} subjects are in both training and validation (first: {both[0]}): split by subject"
        )


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
    chosen = {each.phrase_id for each in itertools.islice((t for t in turns if t is not None), count)}
    if len(chosen) < count:
        log.warning("asked for %d phrases, there are %d with one box", count, len(chosen))
    return [phrase for phrase in phrases if phrase.phrase_id in chosen]
