"""What fine-tuning shows a model beside drawn phrases, so that it keeps what pre-training taught it.

Drawn phrases always have something to show: a model that sees them alone soon answers everything with
"present", and forgets sides and negations. So pairs of pre-training are asked again beside them (and, by
`absence`, what there is nothing to show for).
"""

from collections.abc import Iterable

from medground import leakage
from medground.data.examples import Example, from_anatomy, from_pairs
from medground.records import Anatomy, Pair


def rehearse(
    pairs: Iterable[Pair], anatomies: Iterable[Anatomy] | None, held_out: Iterable[leakage.Imaged]
) -> list[Example]:
    """The images of pairs and anatomies, without those of patients who are held out.

    Region names come from the anatomies or, where there are none, from the pairs.
    """
    found: dict[str, Example] = {}
    from_pairs(pairs, found, terms=anatomies is None, reads=True)
    if anatomies is not None:
        from_anatomy(anatomies, found)
    return leakage.without(found.values(), held_out)
