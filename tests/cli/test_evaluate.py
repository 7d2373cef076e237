"""medground evaluate as its user meets it."""

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from medground import limits, registry
from medground.cli.main import cli
from medground.evaluation.report import pictures

ROOT = Path(__file__).resolve().parents[2]


def lines(*records: dict) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def phrase(number: int, *boxes: list[float], **more: object) -> dict:
    own = {
        "image_id": f"i{number}",
        "phrase_id": f"p{number}",
        "subject_id": f"s{number}",
        "path": "image.png",
    }
    shape = {"width": 100, "height": 100, "text": "left nodule", "category": "Nodule"}
    return own | shape | {"boxes": list(boxes)} | more


def answer(number: int, *boxes: list[float], **more: object) -> dict:
    found = [{"box": box, "score": 0.5} for box in boxes]
    own = {"image_id": f"i{number}", "phrase_id": f"p{number}", "text": "left nodule"}
    return own | {"boxes": found, "present": 1, "model": "m1"} | more


TRUE = [10, 10, 30, 30]
HALF = [10, 10, 30, 20]
TRUTH = [phrase(n, TRUE) for n in range(4)]
ANSWERS = [answer(0, TRUE), answer(1, HALF), answer(2, [20, 10, 40, 30]), answer(3, [50, 50, 60, 60])]
TRAIN = [phrase(n, [10, 10, 30, 40]) for n in range(10, 14)]
MEAN = (1 + 1 / 2 + 1 / 3 + 0) / 4


@pytest.fixture
def evaluate(tmp_path, monkeypatch):
    """Run `medground evaluate` in a folder with truth.jsonl and train.jsonl."""
    monkeypatch.chdir(tmp_path)
    Path("truth.jsonl").write_text(lines(*TRUTH))
    Path("train.jsonl").write_text(lines(*TRAIN))

    def run(answers: list[dict] | str, *flags: str, truth: str = "truth.jsonl"):
        text = answers if isinstance(answers, str) else lines(*answers)
        command = ["evaluate", "--truth", truth, "--bootstrap-samples", "200", *flags]
        return CliRunner().invoke(cli, command, input=text)

    return run


def scores(result, group: str = "all") -> dict[str, dict]:
    assert result.exit_code == 0, result.stderr
    found = [json.loads(line) for line in result.stdout.splitlines()]
    return {each["metric"]: each for each in found if each["group"] == group}


def test_hand_made_files_give_the_figures_of_the_definition(evaluate):
    found = scores(evaluate(ANSWERS))
    assert found["miou"]["value"] == pytest.approx(MEAN, abs=1e-9)
    assert found["acc@.5"]["value"] == 0.5
    assert found["miou"]["low"] <= MEAN <= found["miou"]["high"]
    assert (found["miou"]["n"], found["miou"]["protocol"]) == (4, "single-box")


def test_a_figure_says_where_it_comes_from(evaluate):
    found = scores(evaluate(ANSWERS, "--seed", "3"))["miou"]
    assert re.fullmatch(r"sha256:[0-9a-f]{12}", found["predictions"])
    assert re.fullmatch(r"sha256:[0-9a-f]{12}", found["truth"])
    assert (found["model"], found["draws"], found["seed"]) == ("m1", 200, 3)


def test_the_same_files_give_the_same_bytes(evaluate):
    assert (
        evaluate(ANSWERS, "--train", "train.jsonl").stdout
        == evaluate(ANSWERS, "--train", "train.jsonl").stdout
    )


def test_training_phrases_put_the_prior_and_the_gain_beside_each_figure(evaluate):
    found = scores(evaluate(ANSWERS, "--train", "train.jsonl"))
    assert found["prior_miou"]["value"] == pytest.approx(20 / 30)
    assert found["gain_miou"]["value"] == pytest.approx(MEAN - 20 / 30, abs=1e-9)
    assert found["gain_miou"]["low"] <= found["gain_miou"]["value"] <= found["gain_miou"]["high"]


@pytest.mark.parametrize("flags", [("--truth", "-"), ("--train", "-"), ("--compare", "-")])
def test_two_inputs_cannot_both_be_stdin(evaluate, flags):
    result = evaluate(ANSWERS, *flags)
    assert result.exit_code == 2 and "only one input can be stdin" in result.stderr


def test_a_missing_prediction_counts_as_nothing_found_and_is_reported(evaluate):
    result = evaluate(ANSWERS[:2])
    assert scores(result)["miou"]["value"] == pytest.approx(1.5 / 4)
    assert "no prediction for 2 of 4 phrases" in result.stderr and "(first: phrase 3, of" in result.stderr


def test_an_answer_without_a_box_counts_as_zero(evaluate):
    assert scores(evaluate([answer(0), *ANSWERS[1:]]))["miou"]["value"] == pytest.approx(MEAN - 1 / 4)


def test_phrases_with_several_boxes_are_no_part_of_single_box(evaluate):
    Path("more.jsonl").write_text(lines(*TRUTH, phrase(5, TRUE, [60, 60, 70, 70]), phrase(6)))
    found = scores(evaluate([*ANSWERS, answer(5, TRUE)], truth="more.jsonl"))
    assert (found["miou"]["value"], found["miou"]["n"]) == (pytest.approx(MEAN), 4)


def test_compare_gives_a_paired_difference_with_p(evaluate):
    Path("other.jsonl").write_text(lines(*(answer(n, HALF) for n in range(4))))
    found = scores(evaluate(ANSWERS, "--compare", "other.jsonl"))
    assert found["other_miou"]["value"] == pytest.approx(0.5)
    assert found["difference_miou"]["value"] == pytest.approx(MEAN - 0.5)
    assert 0 < found["difference_miou"]["p"] <= 1
    assert "p" not in found["miou"]


def test_comparing_a_file_with_itself_finds_no_difference(evaluate):
    Path("other.jsonl").write_text(lines(*ANSWERS))
    found = scores(evaluate(ANSWERS, "--compare", "other.jsonl"))["difference_miou"]
    assert (found["value"], found["low"], found["high"], found["p"]) == (0, 0, 0, 1)


def test_a_split_scores_its_part_of_the_truth_and_fits_the_prior_on_train(evaluate):
    both = [each | {"split": "test"} for each in TRUTH[:2]] + [
        each | {"split": "train"} for each in TRUTH[2:]
    ]
    Path("both.jsonl").write_text(lines(*both))
    result = evaluate(ANSWERS, "--split", "test", "--train", "both.jsonl", truth="both.jsonl")
    found = scores(result)
    assert (found["miou"]["value"], found["miou"]["n"]) == (pytest.approx(0.75), 2)
    assert found["prior_miou"]["value"] == 1
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("splits", "says"),
    [(("test", "train", None, "test"), "it has test, train"), ((None,) * 4, "its phrases have no split")],
)
def test_a_split_that_no_phrase_is_of_is_refused(evaluate, splits, says):
    some = [each | ({"split": name} if name else {}) for each, name in zip(TRUTH, splits, strict=True)]
    Path("some.jsonl").write_text(lines(*some))
    result = evaluate(ANSWERS, "--split", "nope", truth="some.jsonl")
    assert result.exit_code == 1 and f"some.jsonl: split: no phrase is of nope; {says}" in result.stderr
    np.savez("maps.npz", p0=np.ones((2, 2)))
    flags = ("maps.npz", "--protocol", "heatmap", "--split", "nope")
    assert says in evaluate("", *flags, truth="some.jsonl").stderr


def test_training_phrases_of_another_split_alone_are_refused(evaluate):
    Path("split.jsonl").write_text(lines(*(each | {"split": "test"} for each in TRUTH)))
    result = evaluate(ANSWERS, "--split", "test", "--train", "train.jsonl", truth="split.jsonl")
    assert result.exit_code == 1 and "train.jsonl: split: no phrase is of train" in result.stderr


def test_an_answer_to_a_phrase_that_nobody_drew_is_passed_over(evaluate):
    Path("more.jsonl").write_text(lines(*TRUTH, phrase(5) | {"boxes": None}))
    result = evaluate([*ANSWERS, answer(5, TRUE)], truth="more.jsonl")
    assert (scores(result)["miou"]["value"], scores(result)["miou"]["n"]) == (pytest.approx(MEAN), 4)


@pytest.mark.parametrize("key", ["subject_id", "image_id"])
def test_patients_in_both_training_and_truth_are_refused(evaluate, key):
    leaky = phrase(20, TRUE) | {key: TRUTH[1][key]}
    Path("leaky.jsonl").write_text(lines(*TRAIN, leaky))
    result = evaluate(ANSWERS, "--train", "leaky.jsonl")
    assert result.exit_code == 1
    assert "(first: record 2 of the scored records)" in result.stderr and "--allow-leakage" in result.stderr
    allowed = scores(evaluate(ANSWERS, "--train", "leaky.jsonl", "--allow-leakage"))
    assert all(each["leakage"] is True for each in allowed.values())


def test_an_unknown_phrase_names_its_line(evaluate):
    result = evaluate([*ANSWERS, answer(9, TRUE)])
    assert result.exit_code == 1
    assert "<stdin>:5: phrase_id: the truth has no such phrase on this image" in result.stderr


def test_a_second_answer_for_a_phrase_names_its_line(evaluate):
    result = evaluate([*ANSWERS, ANSWERS[0]])
    assert result.exit_code == 1
    assert "<stdin>:5: phrase_id: the second line" in result.stderr


@pytest.mark.parametrize("kind", ["jsonl", "radvlm"])
def test_rejects_take_a_line_over_the_limit(evaluate, monkeypatch, kind):
    monkeypatch.setattr(limits, "MAX_LINE", 1000)
    given = lines(*ANSWERS) + "x" * 5000 + "\n" if kind == "jsonl" else "x" * 5000 + "\n"
    result = evaluate(given, "--rejects", "bad.jsonl", "--input-format", kind)
    assert "a line of more than 1000 bytes" in result.stderr
    assert Path("bad.jsonl").read_text() == "x" * 5000 + "\n"
    assert result.exit_code == (0 if kind == "jsonl" else 1), result.stderr


def test_rejects_take_bad_lines_and_the_run_goes_on(evaluate):
    result = evaluate(lines(*ANSWERS, answer(9, TRUE)) + "{oops\n", "--rejects", "bad.jsonl")
    assert scores(result)["miou"]["value"] == pytest.approx(MEAN)
    assert len(Path("bad.jsonl").read_text().splitlines()) == 2


def test_a_phrase_that_stands_twice_in_the_truth_is_refused(evaluate):
    Path("twice.jsonl").write_text(lines(*TRUTH, TRUTH[0]))
    result = evaluate(ANSWERS, truth="twice.jsonl")
    assert result.exit_code == 1 and "twice.jsonl:5: phrase_id" in result.stderr


def test_a_true_box_outside_its_image_is_refused(evaluate):
    Path("off.jsonl").write_text(lines(*TRUTH, phrase(7, [100, 0, 120, 50])))
    result = evaluate(ANSWERS, truth="off.jsonl")
    assert result.exit_code == 1 and "off.jsonl:5: boxes[0]: lies outside the image" in result.stderr


def test_boxes_that_reach_outside_are_clipped_and_reported(evaluate):
    Path("edge.jsonl").write_text(lines(phrase(0, [80, 80, 100, 100]), phrase(1, TRUE)))
    result = evaluate([answer(0, [80, 80, 180, 180]), answer(1, [200, 200, 210, 210])], truth="edge.jsonl")
    assert scores(result)["miou"]["value"] == 0.5
    assert "clipped boxes of 2 of 2 phrases" in result.stderr


def test_no_warning_of_boxes_that_rounding_puts_outside(evaluate):
    result = evaluate([answer(0, [10, 10, 100.04, 100.1]), *ANSWERS[1:]])
    assert result.exit_code == 0 and "clipped" not in result.stderr


@pytest.mark.parametrize(("number", "warned"), [(20, True), (19, False)])
def test_boxes_that_all_lie_in_the_corner_of_small_numbers_are_reported(evaluate, number, warned):
    Path("many.jsonl").write_text(lines(*(phrase(n, TRUE, width=3000, height=2500) for n in range(number))))
    small = [answer(n, [10 + n, 100, 200, 300]) for n in range(number)]
    result = evaluate(small, truth="many.jsonl")
    assert result.exit_code == 0
    assert (f"all {number} boxes lie in the upper left quarter" in result.stderr) == warned
    small[3] = answer(3, [1600, 100, 1700, 300])
    assert "upper left quarter" not in evaluate(small, truth="many.jsonl").stderr


def test_the_prior_needs_the_size_of_images(evaluate):
    bare = {key: value for key, value in TRAIN[0].items() if key != "width"}
    Path("bare.jsonl").write_text(lines(bare))
    result = evaluate(ANSWERS, "--train", "bare.jsonl")
    assert result.exit_code == 1 and "width and height" in result.stderr


def test_nothing_to_score_gives_no_line(evaluate):
    Path("empty.jsonl").write_text("")
    result = evaluate("", truth="empty.jsonl")
    assert (result.exit_code, result.stdout) == (0, "")


def test_words_never_reach_a_message(evaluate):
    result = evaluate([answer(0, TRUE, text="secret"), answer(0, TRUE, text="secret")])
    assert result.exit_code == 1 and "secret" not in result.stderr


def test_several_protocols_stand_one_after_the_other(evaluate):
    flags = [flag for name in registry.PROTOCOLS.where(reads="phrases") for flag in ("--protocol", name)]
    result = evaluate(ANSWERS, *flags)
    seen = [json.loads(line)["protocol"] for line in result.stdout.splitlines()]
    assert list(dict.fromkeys(seen)) == registry.PROTOCOLS.where(reads="phrases")


def test_the_table_goes_to_stderr_where_scores_go_to_stdout(evaluate):
    result = evaluate(ANSWERS, "--table")
    assert "category:Nodule" in result.stderr
    assert all(json.loads(line) for line in result.stdout.splitlines())


def test_the_table_goes_to_stdout_where_scores_go_to_a_file(evaluate):
    result = evaluate(ANSWERS, "--table", "--train", "train.jsonl", "-o", "scores.jsonl")
    assert re.search(r"all +4 +45\.8 \([\d.]+–[\d.]+\) +66\.7 +−20\.8", result.stdout)
    assert result.stderr == "" and Path("scores.jsonl").exists()


# --- pages ----------------------------------------------------------------------------------------------


@pytest.fixture
def image(tmp_path):
    Image.fromarray(np.linspace(0, 255, 10_000).astype(np.uint8).reshape(100, 100)).save(
        tmp_path / "image.png"
    )


def test_the_page_stands_alone_with_figures_and_pictures(evaluate, image):
    spiky = [TRUTH[0] | {"text": "<b>left</b> nodule"}, *TRUTH[1:]]
    Path("truth.jsonl").write_text(lines(*spiky))
    Path("other.jsonl").write_text(lines(*(answer(n, HALF) for n in range(4))))
    flags = ("--train", "train.jsonl", "--compare", "other.jsonl", "--html", "page.html")
    assert evaluate(ANSWERS, *flags).exit_code == 0
    text = Path("page.html").read_text()
    assert "45.8" in text and "category:Nodule" in text and "differ most" in text
    assert text.count('src="data:image/jpeg;base64,') == 4 * 2 + 3 * 2  # those apart, then one of each kind
    assert "&lt;b&gt;left" in text and "<b>left" not in text
    assert not re.search(r'(src|href)="(?!data:)|<script|@import|url\(', text)


def test_a_page_that_cannot_be_made_leaves_the_old_one(evaluate):
    Path("page.html").write_text("old")
    result = evaluate(ANSWERS, "--html", "page.html", "-o", "scores.jsonl")
    assert result.exit_code == 1 and "image.png" in result.stderr
    assert Path("page.html").read_text() == "old"


@pytest.mark.parametrize("count", [1, 2, 3, 5, 40])
def test_best_middling_and_worst_share_no_phrase(count):
    found = pictures.spread([(7 * i) % count for i in range(count)], 3)
    places = [place for _, some in found for place in some]
    assert len(places) == len(set(places)) <= 9
    assert found[0][0] == "Best"


@pytest.mark.slow
def test_demo_page_joins_runs(evaluate, image, tmp_path):
    tool = ROOT / "tools" / "demo_page"
    assert tool.stat().st_mode & stat.S_IXUSR
    halves = [answer(n, HALF) for n in range(4)]
    for name, answers in (("good", ANSWERS), ("half", halves)):
        Path(f"{name}.jsonl").write_text(lines(*answers))
        assert evaluate(answers, "--train", "train.jsonl", "-o", f"{name}.scores").exit_code == 0
    runs = [f"--run={name} run={name}.scores:{name}.jsonl" for name in ("half", "good")]
    command = [sys.executable, str(tool), *runs, "--truth", "truth.jsonl", "-o", "index.html"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=os.environ, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"half run +50\.0 .* 66\.7", done.stdout)
    assert re.search(r"good run − half run +−4\.2 \(.*\) p=", done.stdout)
    assert "good run − half run" in Path("index.html").read_text()


@pytest.mark.slow
def test_demo_page_names_a_file_that_is_not_there(tmp_path):
    tool = ROOT / "tools" / "demo_page"
    command = [sys.executable, str(tool), "--run=a=x:y", "--truth", "z", "-o", "index.html"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2 and "no such file" in done.stderr
