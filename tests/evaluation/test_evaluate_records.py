"""`medground.evaluation.evaluate`: records in, scores out, the same as the command's."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from medground import jsonl, output_files
from medground.cli.main import cli
from medground.errors import BadRecord, MedgroundError
from medground.evaluation import evaluate
from medground.evaluation.protocols import SET, PhraseProtocol, first_ious
from medground.evaluation.report import table
from medground.evaluation.stats.figures import mean_over
from medground.records import Anatomy, Grounding, Phrase, Region, Score, ScoredBox

TRUE, HALF = (10, 10, 30, 30), (10, 10, 30, 20)


def phrase(number: int, *boxes: tuple, **more: object) -> Phrase:
    own = {"image_id": f"i{number}", "phrase_id": f"p{number}", "subject_id": f"s{number}", "path": "x.png"}
    return Phrase(**own | {"width": 100, "height": 100, "text": "nodule", "boxes": list(boxes)} | more)


def prediction(number: int, *boxes: tuple, score: float = 0.5) -> Grounding:
    found = [ScoredBox(box=box, score=score) for box in boxes]
    return Grounding(
        image_id=f"i{number}", phrase_id=f"p{number}", text="nodule", boxes=found, present=1, model="m1"
    )


TRUTH = [phrase(n, TRUE) for n in range(4)]
PREDICTIONS = [prediction(0, TRUE), prediction(1, HALF), prediction(2), prediction(3, TRUE)]
TRAIN = [phrase(n, HALF) for n in range(10, 14)]


def value(scores, metric: str, group: str = "all") -> float | None:
    return next(each.value for each in scores if (each.metric, each.group) == (metric, group))


def test_records_give_the_scores_of_the_command(tmp_path):
    for name, records in (("found", PREDICTIONS), ("truth", TRUTH), ("train", TRAIN)):
        with output_files.create(str(tmp_path / f"{name}.jsonl")) as stream:
            jsonl.write(stream, records)
    files = [str(tmp_path / f"{name}.jsonl") for name in ("found", "truth", "train")]
    flags = ["--protocol", "single-box", "--protocol", "set", "--bootstrap-samples", "200"]
    result = CliRunner().invoke(cli, ["evaluate", files[0], "--truth", files[1], "--train", files[2], *flags])
    assert result.exit_code == 0, result.stderr
    scores = evaluate(PREDICTIONS, TRUTH, ["single-box", "set"], TRAIN, draws=200)
    of_command = [json.loads(line) for line in result.stdout.splitlines()]
    hashes = ("predictions", "truth", "train")
    expected = [{key: each[key] for key in each if key not in hashes} for each in of_command]
    assert [json.loads(jsonl.dumps(each)) for each in scores] == expected
    assert len(scores) == len(expected) and isinstance(scores[0], Score) and scores[-2:] == list(scores)[-2:]


def test_iterators_are_enough():
    scores = evaluate(iter(PREDICTIONS), iter(TRUTH), train=iter(TRAIN), compare=iter(PREDICTIONS), draws=200)
    assert value(scores, "miou") == 0.625 and value(scores, "difference_miou") == 0


def test_boxes_are_ranked_by_score():
    first = [ScoredBox(box=HALF, score=0.1), ScoredBox(box=TRUE, score=0.9)]
    found = Grounding(image_id="i0", phrase_id="p0", text="", boxes=first, present=1, model="")
    assert value(evaluate([found], TRUTH[:1], draws=100), "miou") == 1


@pytest.mark.parametrize(
    ("predictions", "truth", "message"),
    [
        ([prediction(9)], TRUTH, r"predictions\[0\]: phrase_id: the truth has no such phrase"),
        ([*PREDICTIONS, PREDICTIONS[0]], TRUTH, r"predictions\[4\]: phrase_id: the second"),
        ([], [*TRUTH, TRUTH[1]], r"truth\[4\]: phrase_id: the second"),
    ],
)
def test_records_that_do_not_fit_are_named_by_their_place(predictions, truth, message):
    with pytest.raises(BadRecord, match=message):
        evaluate(predictions, truth)


def test_training_patients_are_refused_or_mark_each_score():
    with pytest.raises(MedgroundError, match="1 subject is"):
        evaluate(PREDICTIONS, TRUTH, train=[*TRAIN, TRUTH[0]])
    scores = evaluate(PREDICTIONS, TRUTH, train=[*TRAIN, TRUTH[0]], allow_leakage=True, draws=100)
    assert all(each.extra["leakage"] for each in scores)


def test_heat_maps_are_a_mapping_of_arrays():
    maps = {f"p{n}": np.pad(np.ones((20, 20)), ((10, 70), (10, 70))) for n in range(4)}
    assert value(evaluate(maps, TRUTH, ["heatmap"], draws=100), "miou") == 1
    with pytest.raises(MedgroundError, match="predictions: array 1: expected finite numbers"):
        evaluate({"p0": np.zeros(3)}, TRUTH, ["heatmap"])


def test_anatomy_is_scored_by_region():
    lung = Region(name="left lung", box=(50, 0, 100, 80))
    images = [Anatomy(image_id="i1", path="x.png", width=100, height=80, regions=[lung])]
    assert value(evaluate(images, images, ["anatomy"], draws=100), "miou", "region:left lung") == 1
    with pytest.raises(MedgroundError, match="takes no split"):
        evaluate(images, images, ["anatomy"], split="test")


def test_protocols_of_two_kinds_are_refused():
    with pytest.raises(MedgroundError, match="the same kind of predictions"):
        evaluate(PREDICTIONS, TRUTH, ["set", "anatomy"])


def test_a_protocol_of_ones_own_is_an_object():
    hits = PhraseProtocol(
        "hit-rate",
        lambda each: bool(each.boxes),
        lambda cases: {"hit@.3": mean_over((first_ious(cases) >= 0.3).astype(float))},
        "hit@.3",
    )
    scores = evaluate(PREDICTIONS, TRUTH, [hits, SET], draws=100)
    assert value(scores, "hit@.3") == 0.75
    assert {each.protocol for each in scores} == {"hit-rate", "set"}


def test_a_page_shows_perturbations_that_have_no_iou(tmp_path):
    """A foreign phrase has no true box, so it has `absent` alone."""
    from medground.evaluation.report import page

    scores = [
        Score(protocol="probes", metric=metric, group=f"probe:{group}", value=0.5, low=None, high=None, n=n)
        for group, metric, n in (
            ("unchanged", "miou", 4),
            ("unchanged", "absent", 4),
            ("foreign phrase", "absent", 3),
        )
    ]
    rows = page.grid(scores).rows
    assert [(row.name, row.n, row.marks[0].value) for row in rows] == [
        ("unchanged", 4, 50.0), ("foreign phrase", 3, None),
    ]  # fmt: skip
    assert table.grid(scores)[1][1] == ["foreign phrase", "3", "–", "50.0"]
    page.save(tmp_path / "page.html", page.Page("Scores", "", [], [page.grid(scores)], []))
    assert "foreign phrase" in Path(tmp_path / "page.html").read_text()
