import pytest
from hypothesis import given
from hypothesis import strategies as st

from medground.errors import MedgroundError
from medground.evaluation import front
from medground.evaluation.comparison import compare, holm
from medground.evaluation.report import comparison as report
from medground.records import Grounding, Phrase, ScoredBox

TRUTH = [
    Phrase(
        image_id=f"i{n}", phrase_id="p", text="opacity", path=f"i{n}.png", subject_id=f"s{n}",
        boxes=[(0.0, 0.0, 10.0, 10.0)], width=20, height=20,
    )
    for n in range(12)
]  # fmt: skip


def model(shift: float) -> list[Grounding]:
    """Return predictions that get worse with the shift, and with the number of the image."""
    return [
        Grounding(
            image_id=each.image_id, phrase_id="p", text="opacity", present=1.0, model="m",
            boxes=[ScoredBox(box=(0.0, 0.0, 10.0, 10.0 - shift - n / 10), score=0.9)],
        )
        for n, each in enumerate(TRUTH)
    ]  # fmt: skip


MODELS = {"good": model(0), "fair": model(2), "bad": model(6)}


def slow_holm(values: list[float]) -> list[float]:
    """Holm's p-values by definition: the largest of (m - j + 1) p_(j) over all smaller or equal ones."""
    ranked = sorted(values)
    steps = [min(1.0, (len(values) - j) * p) for j, p in enumerate(ranked)]
    return [max(steps[: max(j for j, p in enumerate(ranked) if p == value) + 1]) for value in values]


@given(st.lists(st.floats(0, 1, allow_subnormal=False), min_size=1, max_size=6, unique=True))
def test_holm_is_its_definition(values):
    assert holm(values) == pytest.approx(slow_holm(values))


def test_each_model_has_the_scores_and_differences_that_evaluate_gives():
    scores = compare(MODELS, TRUTH, ["single-box", "coco"], draws=200)
    for name in ("fair", "bad"):
        own = front.evaluate(MODELS[name], TRUTH, ["single-box", "coco"], compare=MODELS["good"], draws=200)
        expected = [each for each in own if not each.metric.startswith("other_")]
        found = [each for each in scores if each.extra["name"] == name]
        assert [(each.metric, each.group, each.value, each.low, each.high) for each in found] == [
            (each.metric, each.group, each.value, each.low, each.high) for each in expected
        ]
    assert not [each for each in scores if each.extra["name"] == "good" and "difference" in each.metric]


def test_p_values_are_corrected_for_the_number_of_models():
    scores = compare(MODELS, TRUTH, draws=200)
    found = [each for each in scores if (each.metric, each.group) == ("difference_miou", "all")]
    assert [each.extra["name"] for each in found] == ["fair", "bad"]
    assert [each.extra["p_holm"] for each in found] == holm([each.extra["p"] for each in found])
    assert {each.extra["reference"] for each in found} == {"good"}


def test_the_reference_can_be_any_of_the_models():
    scores = compare(MODELS, TRUTH, reference="bad", draws=200)
    found = {
        each.extra["name"]: each.value
        for each in scores
        if each.metric == "difference_miou" and each.group == "all"
    }
    assert found.keys() == {"good", "fair"} and min(found.values()) > 0


@pytest.mark.parametrize(
    ("models", "reference", "message"),
    [
        ({"good": MODELS["good"]}, None, "at least two models"),
        (MODELS, "other", "reference 'other': not among the models"),
    ],
)
def test_models_that_cannot_be_compared_are_refused(models, reference, message):
    with pytest.raises(MedgroundError, match=message):
        compare(models, TRUTH, reference=reference)


def test_a_table_has_a_row_per_model_with_the_best_figure_bold():
    table = report.of(compare(MODELS, TRUTH, ["single-box", "set"], draws=200))
    text = report.markdown(table)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert [row.split(" | ")[0] for row in rows] == ["| model", "| ---", "| good", "| fair", "| bad"]
    assert len({row.count(" | ") for row in rows}) == 1
    assert "**" in rows[2] and "**" not in rows[4]
    assert "(Holm)" in text


@pytest.mark.parametrize("format", report.FORMATS)
def test_a_name_cannot_change_the_table(format):
    names = {"a | b": MODELS["good"], "<script>&%_": MODELS["bad"]}
    table = report.of(compare(names, TRUTH, draws=200))
    text = report.FORMATS[format](table)
    assert "<script>" not in text or format == "latex"
    if format == "markdown":
        assert r"| a \| b |" in text
    if format == "latex":
        assert r"<script>\&\%\_" in text


def test_a_group_without_a_figure_of_one_model_has_a_dash():
    scores = [
        each
        for each in compare(MODELS, TRUTH, draws=200)
        if each.extra["name"] != "bad" or each.metric != "miou"
    ]
    rows = dict(report.of(scores).rows)
    assert rows["bad"][0].text == "–"
