"""The groups that figures are given for, as masks over the items of a test set.

all             every item; "micro" in the literature
macro           the plain mean over the categories (made by `scoring`, not a mask)
category:NAME   one category
without:NAME    all but cardiomegaly, whose box is nearly the same on every image and lifts every model
side:WORD       the side that the phrase names: left, right, both, none
phrases:N       by the number of scored phrases on the image: 1, 2, 3+
boxes:N         by the number of true boxes of the phrase: 0, 1, 2+ (where more than one number occurs)

Letters: N items, G groups.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medground.records import Phrase
from medground.reports import laterality

EASY = "cardiomegaly"


@dataclass(frozen=True, slots=True)
class Groups:
    """Names and (G, N) masks; `parts` are the groups whose mean is `macro`."""

    names: list[str]
    masks: NDArray[np.bool_]
    parts: list[int]

    @property
    def counts(self) -> list[int]:
        """Items in each group."""
        return [int(mask.sum()) for mask in self.masks]


def build(labels: Sequence[tuple[str, Sequence[bool]]], size: int, part: str) -> Groups:
    """`all`, then the labelled groups that are not empty; those whose name starts with `part` make macro."""
    kept = [("all", [True] * size), *((name, mask) for name, mask in labels if any(mask))]
    names = [name for name, _ in kept]
    masks = np.array([mask for _, mask in kept], dtype=bool).reshape(len(kept), size)
    return Groups(names, masks, [i for i, name in enumerate(names) if name.startswith(part)])


def of_phrases(phrases: Sequence[Phrase]) -> Groups:
    """The groups of a list of phrases, in the order of the module's table, names sorted within each kind."""
    per_image = Counter(phrase.image_id for phrase in phrases)
    labels = _by("category", phrases, lambda phrase: phrase.category)
    labels += _without_easy(phrases)
    labels += _by("side", phrases, lambda phrase: laterality.side_of(phrase.text))
    labels += _by("phrases", phrases, lambda phrase: _up_to(3, per_image[phrase.image_id]))
    of_boxes = _by("boxes", phrases, lambda phrase: _up_to(2, len(phrase.boxes or ())))
    return build(labels + (of_boxes if len(of_boxes) > 1 else []), len(phrases), "category:")


def of_names(kind: str, names: Sequence[str]) -> Groups:
    """One group for each different name, `kind:name`; macro is the mean over them."""
    labels = [(f"{kind}:{name}", [each == name for each in names]) for name in sorted(set(names))]
    return build(labels, len(names), f"{kind}:")


Labels = list[tuple[str, list[bool]]]


def _by(kind: str, phrases: Sequence[Phrase], name_of: Callable[[Phrase], str | None]) -> Labels:
    names = [name_of(phrase) for phrase in phrases]
    kinds = sorted({name for name in names if name is not None})
    return [(f"{kind}:{name}", [each == name for each in names]) for name in kinds]


def _without_easy(phrases: Sequence[Phrase]) -> Labels:
    easy = sorted({p.category for p in phrases if p.category and p.category.lower() == EASY})
    return [(f"without:{name}", [phrase.category != name for phrase in phrases]) for name in easy]


def _up_to(most: int, number: int) -> str:
    return f"{most}+" if number >= most else str(number)
