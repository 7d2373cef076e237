"""Text without sentence ends: a long sentence stays whole, and a longer stretch is cut into short pieces."""

import pytest

from medground.reports.sentences import LONGEST, PIECE, split_sentences


@pytest.mark.parametrize(
    ("length", "longest"), [(LONGEST, LONGEST), (LONGEST + PIECE, PIECE), (100_000, PIECE)]
)
@pytest.mark.parametrize("unit", ["no edema, ", "x"])
def test_only_longer_stretches_are_cut(unit, length, longest):
    text = (unit * length)[: length - 1] + "x"
    spans = list(split_sentences(text, 0, length))
    assert max(end - start for start, end in spans) <= longest
    assert (len(spans) == 1) == (longest == LONGEST)
    assert "".join(text[start:end] for start, end in spans).replace(" ", "") == text.replace(" ", "")
