"""The protocol `answers` against loops over questions."""

import json
import random
from collections import Counter

import pytest
import squares
from click.testing import CliRunner

import medground
from medground.answers.normal import normal
from medground.cli.main import cli
from medground.errors import BadRecord, MedgroundError
from medground.evaluation import answers
from medground.published import PARTS_SHARE_IMAGES
from medground.records import Answer, Question

CHOICES = {"side": ("Left", "right."), "color": ("No", "yes"), "count": ("One", "2", "7")}


def questions(count=60, seed=0, split="test", **more):
    made, found = random.Random(seed), []
    for n in range(count):
        kind = made.choice([*CHOICES])
        found.append(
            Question(
                image_id=f"{split}{n // 3}",
                question_id=str(n),
                subject_id=f"{split}{n // 6}",
                path="x.png",
                text="?!",
                answer=made.choice(CHOICES[kind]),
                answer_type="closed" if kind == "color" else "open",
                question_type=kind,
                split=split,
                **more,
            )
        )
    return found


def predictions(truth, start=0, **extra):
    made = random.Random(start + 7)
    return [
        Answer(
            image_id=each.image_id,
            question_id=each.question_id,
            answer=made.choice(CHOICES[each.question_type]).upper(),
            model="m",
            extra=extra,
        )
        for each in truth
    ]


def evaluate(found, truth, **more):
    scores = medground.evaluate(found, truth, ["answers"], draws=100, **more)
    return {(each.metric, each.group): each for each in scores}


def mean(values):
    values = list(values)
    return sum(values) / len(values)


@pytest.mark.parametrize("seed", [0, 1])
def test_figures_are_those_of_loops(seed):
    truth, train = questions(seed=seed), questions(40, seed + 5, "train")
    train = [each for each in train if each.answer != "7"]
    runs = [predictions(truth, 10 * seed + n, seed=n) for n in range(2)]
    other = predictions(truth, 99)
    scores = evaluate(runs[0] + runs[1], truth, train=train, compare=other)

    def right(run):
        return [normal(f.answer) == normal(t.answer) for f, t in zip(run, truth, strict=True)]

    own = [mean(both) for both in zip(*map(right, runs), strict=True)]
    guesses = {}
    for kind in CHOICES:
        counts = Counter(normal(each.answer) for each in train if each.question_type == kind)
        guesses[kind] = sorted(counts, key=lambda name, own=counts: (-own[name], name))[0]
    guessed = [normal(each.answer) == guesses[each.question_type] for each in truth]
    groups = {"all": [True] * len(truth)}
    groups |= {f"question_type:{kind}": [t.question_type == kind for t in truth] for kind in CHOICES}
    groups |= {f"answer_type:{kind}": [t.answer_type == kind for t in truth] for kind in ("open", "closed")}
    known = {normal(each.answer) for each in train}
    for name, mask in groups.items():
        kept = [n for n, taken in enumerate(mask) if taken]
        assert scores["accuracy", name].value == pytest.approx(mean(own[n] for n in kept))
        assert scores["accuracy", name].n == len(kept)
        assert scores["prior_accuracy", name].value == pytest.approx(mean(guessed[n] for n in kept))
        assert scores["other_accuracy", name].value == pytest.approx(mean(right(other)[n] for n in kept))
        found = scores["reachable", name].value
        assert found == pytest.approx(mean(normal(truth[n].answer) in known for n in kept))
    images = sorted({each.image_id for each in truth})
    per_image = [mean(own[n] for n, t in enumerate(truth) if t.image_id == i) for i in images]
    assert scores["accuracy_per_image", "all"].value == pytest.approx(mean(per_image))
    assert ("accuracy_per_image", "answer_type:open") not in scores
    apart = scores["difference_accuracy", "all"]
    assert apart.low < apart.value < apart.high and 0 < apart.extra["p"] <= 1
    assert scores["reachable", "all"].value < 1


def test_the_baseline_of_an_unknown_type_is_the_commonest_answer_of_all():
    train = [each for each in questions(30, 3, "train") if each.question_type != "count"]
    guess = answers.commonest(train)
    counts = Counter(normal(each.answer) for each in train)
    assert guess(questions()[0].__class__(image_id="i", question_id="q", path="x", text="?")) == min(
        counts, key=lambda name: (-counts[name], name)
    )


def test_questions_that_cannot_be_compared_are_left_out_and_counted(caplog):
    truth = questions(12)
    more = [
        Question(image_id="d", question_id="d", path="x", text="?", answer="new", question_type="difference"),
        Question(image_id="n", question_id="n", path="x", text="?"),
    ]
    scores = evaluate(predictions(truth), truth + more)
    assert scores["accuracy", "all"].n == 12
    assert "1 questions about a difference have no prediction: left out" in caplog.text
    assert ("bleu1", "all") not in scores
    assert "1 questions without a true answer are left out" in caplog.text


def test_answers_about_differences_are_scored_as_texts():
    truth = questions(12)
    sentences = ("the effusion has grown", "nothing has changed", "the tube is new")
    difference_questions = [
        Question(
            image_id=f"d{n}", question_id="d", path="x", text="?", answer=text, question_type="difference"
        )
        for n, text in enumerate(sentences)
    ]
    said = [
        Answer(image_id=e.image_id, question_id="d", answer="The effusion has changed.", model="m")
        for e in difference_questions
    ]
    scores = evaluate(predictions(truth) + said, truth + difference_questions)
    assert scores["accuracy", "all"].n == 12 and scores["rouge_l", "all"].n == 3
    shared = [
        4,
        2 + 1,
        1 + 1,
    ]  # words and the end of the sentence: the effusion has . / has changed . / the .
    assert scores["bleu1", "all"].value == pytest.approx(sum(shared) / 15, abs=1e-6)
    assert evaluate(
        predictions(truth) + said, truth + difference_questions, compare=predictions(truth) + said
    )["difference_rouge_l", "all"].value == pytest.approx(0)


def test_images_that_a_published_split_shares_are_named_and_not_refused(caplog):
    rule = f"VQA-RAD phrase_type; {PARTS_SHARE_IMAGES}"
    test = questions(12, split_by=rule)
    train = [
        Question(image_id=each.image_id, question_id=f"t{n}", path="x", text="?", answer="2", split="train")
        for n, each in enumerate(test)
    ]
    scores = evaluate(predictions(test), test + train, train=test + train, split="test")
    assert "4 of 4 images are in other parts too" in caplog.text
    assert scores["accuracy", "all"].extra["split_by"] == rule
    assert "leakage" not in scores["accuracy", "all"].extra
    plain = [each for each in questions(12)]
    with pytest.raises(MedgroundError, match="are in both the scored records"):
        evaluate(predictions(plain), plain + train, split="test")


@pytest.mark.parametrize(
    "change, problem",
    [
        (lambda f: [*f, f[0]], "the second line with this question and seed"),
        (lambda f: [Answer(image_id="z", question_id="z", answer="a", model="m")], "no such question"),
        (lambda f: predictions(questions(12), seed="a"), "seed: expected a whole number"),
    ],
)
def test_predictions_that_do_not_fit_are_refused(change, problem):
    truth = questions(12)
    with pytest.raises(BadRecord, match=problem):
        evaluate(change(predictions(truth)), truth)


def test_every_scored_question_needs_a_prediction():
    truth = questions(12)
    with pytest.raises(MedgroundError, match="no prediction for 2 of 12 scored questions"):
        evaluate(predictions(truth)[2:], truth)
    with pytest.raises(MedgroundError, match="no question is of val; it has test"):
        evaluate(predictions(truth), truth, split="val")


def test_bad_lines_of_the_command_have_their_place(tmp_path):
    lines = squares.make(tmp_path, 2)
    found = [{"image_id": e["image_id"], "question_id": e["question_id"], "answer": "no"} for e in lines]
    squares.write(tmp_path / "found.jsonl", [each | {"model": "m"} for each in found])
    squares.write(tmp_path / "truth.jsonl", [*lines, lines[0], lines[1] | {"question_id": "e", "text": " "}])
    words = [
        "evaluate",
        f"{tmp_path}/found.jsonl",
        "--truth",
        f"{tmp_path}/truth.jsonl",
        "--protocol",
        "answers",
    ]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 1 and "truth.jsonl:5: question_id: the second question" in result.stderr
    kept = CliRunner().invoke(cli, [*words, "--rejects", f"{tmp_path}/bad.jsonl"])
    assert kept.exit_code == 0 and "truth.jsonl:6: text: an empty question" in kept.stderr
    assert len((tmp_path / "bad.jsonl").read_text().splitlines()) == 2
    assert json.loads(kept.stdout.splitlines()[0])["n"] == 4
