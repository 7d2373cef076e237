"""Whether boxes that state a coverage keep it."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from medground.cli.main import cli
from medground.errors import MedgroundError
from medground.evaluation import coverage
from medground.evaluation.cases import Case
from medground.evaluation.stats import scoring
from medground.records import Grounding, Phrase, ScoredBox

WIDE, NARROW = (0.0, 0.0, 50.0, 50.0), (10.0, 10.0, 20.0, 20.0)
Boxes = st.lists(st.tuples(*[st.integers(0, 20)] * 2, *[st.integers(1, 20)] * 2), max_size=4)


def case(number: int, true: list, found: list) -> Case:
    phrase = Phrase(
        image_id=f"i{number}", phrase_id="1", subject_id=f"p{number}", path="x", text="t", boxes=true
    )
    return Case(phrase, [ScoredBox(box=each, score=1.0) for each in found])


def answer(**extra: object) -> Grounding:
    return Grounding(image_id="i", phrase_id="p", text="t", boxes=[], present=1.0, model="m", extra=extra)


def test_a_share_of_true_boxes_is_counted_and_not_of_phrases():
    cases = [
        case(1, [NARROW], [WIDE]),
        case(2, [NARROW, WIDE], [NARROW]),
        case(3, [WIDE], [NARROW]),
        case(4, [], [WIDE]),  # nothing to cover
    ]
    found = {
        (each.group, each.metric): each
        for each in scoring.score(coverage.measure(cases), scoring.Resampling(200))
    }
    whole = found["all", "covered"]
    assert (whole.value, whole.n, whole.protocol) == (0.5, 4, "coverage")
    assert whole.low <= 0.5 <= whole.high


@pytest.mark.slow
@given(true=Boxes, found=Boxes)
def test_covered_against_a_slow_reference(true, found):
    def corners(boxes):
        return np.array([(x, y, x + w, y + h) for x, y, w, h in boxes], dtype=float).reshape(-1, 4)

    inside = 0
    for a in corners(true):
        inside += any(b[0] <= a[0] and b[1] <= a[1] and b[2] >= a[2] and b[3] >= a[3] for b in corners(found))
    assert coverage.covered(corners(true), corners(found)) == inside


def test_records_that_state_nothing_are_not_checked():
    assert coverage.stated([answer(), answer()]) == {}
    assert coverage.stated([answer(coverage=0.9), answer(coverage=0.9)]) == {"coverage": 0.9}


@pytest.mark.parametrize("others", [[answer()], [answer(coverage=0.8)], [answer(coverage="all")]])
def test_records_that_state_different_things_are_refused(others):
    with pytest.raises(MedgroundError, match="state different things"):
        coverage.stated([answer(coverage=0.9), *others])


def test_evaluate_reports_it_where_the_records_state_it(tmp_path):
    same = {"image_id": "i", "phrase_id": "p", "text": "t"}
    (tmp_path / "truth.jsonl").write_text(json.dumps(same | {"path": "x", "boxes": [NARROW, [0, 0, 99, 9]]}))
    said = same | {"boxes": [{"box": WIDE, "score": 1}], "present": 1, "model": "m"}
    found = {}
    for name, extra in (("widened", {"coverage": 0.9}), ("plain", {})):
        (tmp_path / "found.jsonl").write_text(json.dumps(said | extra))
        args = ["evaluate", tmp_path / "found.jsonl", "--truth", tmp_path / "truth.jsonl"]
        result = CliRunner().invoke(cli, [*map(str, args), "--protocol", "set", "--bootstrap-samples", "100"])
        assert result.exit_code == 0, result.stderr
        found[name] = [json.loads(line) for line in result.stdout.splitlines()]
    assert {each["protocol"] for each in found["plain"]} == {"set"}
    (whole,) = (each for each in found["widened"] if each["metric"] == "covered" and each["group"] == "all")
    assert (whole["protocol"], whole["value"], whole["n"], whole["coverage"]) == ("coverage", 0.5, 2, 0.9)
