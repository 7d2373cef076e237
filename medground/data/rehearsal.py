"""Replay of pre-training pairs in fine-tuning, so that the model keeps its knowledge.

Annotated phrases always have boxes. A model fine-tuned only on them soon predicts "present" for every phrase
and ignores sides and negations. So pre-training pairs are added to the batches (and negatives, by
`negatives`).
"""

from collections.abc import Iterable

from medground import leakage
from medground.data.examples import Example, from_anatomy, from_pairs
from medground.records import Anatomy, Pair


def rehearse(
    pairs: Iterable[Pair], anatomies: Iterable[Anatomy] | None, held_out: Iterable[leakage.Imaged]
) -> list[Example]:
    """Return the examples of pairs and anatomies, without held-out patients.

    Region names come from the anatomies, or from the pairs if `anatomies` is None.
    """
    found: dict[str, Example] = {}
    from_pairs(pairs, found, terms=anatomies is None, reads=True)
    if anatomies is not None:
        from_anatomy(anatomies, found)
    return leakage.without(found.values(), held_out)
