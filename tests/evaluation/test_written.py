"""The protocol `reports` against slow references of BLEU, ROUGE-L and F1 of findings."""

import json
import math
import random
from collections import Counter

import numpy as np
import pytest
from click.testing import CliRunner

import medground
from medground.cli.main import cli
from medground.errors import BadRecord, MedgroundError
from medground.evaluation import report_words, written
from medground.evaluation.stats import texts
from medground.records import Report

EFFUSION = "There is a small left pleural effusion. No pneumothorax."
CLEAR = "No pleural effusion or pneumothorax. The lungs are clear."
EDEMA = "Mild pulmonary edema. Small left pleural effusion."


def report(number, text, **more):
    return Report(study_id=f"s{number}", subject_id=f"p{number}", text=text, extra=more)


TRUTH = [report(0, EFFUSION), report(1, CLEAR), report(2, EDEMA), report(3, CLEAR)]
FOUND = [
    report(0, "Small left pleural effusion.", model="m"),
    report(1, CLEAR, model="m"),
    report(2, "Small left effusion. Right pneumothorax.", model="m"),
    report(3, EDEMA, model="m"),
]


def scores(found=FOUND, truth=TRUTH, **more):
    kept = medground.evaluate(found, truth, ["reports"], draws=100, **more)
    return {(each.metric, each.group): each for each in kept}


def slow_bleu(pairs, order):
    """Corpus BLEU as pycocoevalcap's BleuScorer computes it, with the closest length of one reference."""
    guessed, right = [0] * order, [0] * order
    for found, true in pairs:
        for k in range(order):
            mine, theirs = (
                Counter(tuple(words[i : i + k + 1]) for i in range(len(words) - k)) for words in (found, true)
            )
            guessed[k] += max(0, len(found) - k)
            right[k] += sum(min(count, theirs[gram]) for gram, count in mine.items())
    product = 1.0
    for k in range(order):
        product *= (right[k] + 1e-15) / (guessed[k] + 1e-9)
    ratio = (sum(len(a) for a, _ in pairs) + 1e-15) / (sum(len(b) for _, b in pairs) + 1e-9)
    return product ** (1 / order) * (math.exp(1 - 1 / ratio) if ratio < 1 else 1)


def slow_common(one, other):
    table = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            table[i + 1][j + 1] = table[i][j] + 1 if a == b else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


def slow_rouge(found, true):
    common = slow_common(found, true)
    if not common:
        return 0.0
    precision, recall = common / len(found), common / len(true)
    return (1 + 1.2**2) * precision * recall / (recall + 1.2**2 * precision)


def random_texts(count, seed):
    rng = random.Random(seed)
    return [[rng.choice("abcde") for _ in range(rng.randrange(12))] for _ in range(count)]


def test_the_longest_common_subsequence_is_that_of_a_table():
    for one, other in zip(random_texts(200, 0), random_texts(200, 1), strict=True):
        assert texts.common_subsequence(one, other) == slow_common(one, other)
        assert texts.rouge_l(one, other) == pytest.approx(slow_rouge(one, other))


@pytest.mark.parametrize("prefix, words_of", [("", report_words.cleaned), ("raw_", report_words.raw)])
def test_bleu_and_rouge_are_those_of_pycocoevalcap(prefix, words_of):
    got = scores()
    pairs = [(words_of(a.text), words_of(b.text)) for a, b in zip(FOUND, TRUTH, strict=True)]
    for order in range(1, 5):
        value = got[f"{prefix}bleu{order}", "all"].value
        assert value == pytest.approx(slow_bleu(pairs, order), abs=1e-9)
    assert got[f"{prefix}rouge_l", "all"].value == pytest.approx(
        np.mean([slow_rouge(*each) for each in pairs])
    )


@pytest.mark.slow
def test_bleu_of_random_texts_is_that_of_a_slow_one():
    for seed in range(8):
        found, true = random_texts(6, seed), random_texts(6, 100 + seed)
        true = [each or ["a"] for each in true]
        reports = [[report(n, " ".join(each)) for n, each in enumerate(some)] for some in (found, true)]
        got = scores(*reports)
        for order in range(1, 5):
            expected = slow_bleu(list(zip(found, true, strict=True)), order)
            assert got[f"raw_bleu{order}", "all"].value == pytest.approx(expected, abs=1e-9)


def test_an_interval_of_bleu_is_over_draws_of_patients():
    got = scores()["bleu2", "all"]
    pairs = [
        tuple(report_words.cleaned(each.text) for each in both) for both in zip(FOUND, TRUTH, strict=True)
    ]
    drawn = np.random.default_rng(0).integers(0, 4, size=(100, 4))
    values = [slow_bleu([pairs[n] for n in row], 2) for row in drawn]
    assert (got.low, got.high) == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=1e-6)


def test_findings_are_counted_by_study():
    got = scores()
    # effusion: right in 0 and 2, wrong in 3; edema: missed in 2, wrong in 3; pneumothorax: wrong in 2
    assert got["parser-precision", "all"].value == pytest.approx(2 / 5)
    assert got["parser-recall", "all"].value == pytest.approx(2 / 3)
    assert got["parser-f1", "all"].value == pytest.approx(4 / 8)
    assert got["parser-f1", "finding:pleural effusion"].value == pytest.approx(4 / 5)
    assert got["parser-f1", "finding:pulmonary edema/hazy opacity"].value == 0
    assert got["parser-f1", "macro"].value == pytest.approx((4 / 5 + 0) / 2)
    assert ("parser-f1", "finding:pneumothorax") not in got


def test_the_baselines_are_another_patients_report_and_the_commonest_one():
    train = [report(10, EDEMA), report(11, CLEAR), report(12, CLEAR)]
    got = scores(train=train)
    true, common = (list(map(report_words.cleaned, each)) for each in ([e.text for e in TRUTH], [CLEAR] * 4))
    prior = slow_bleu(list(zip(common, true, strict=True)), 4)
    assert got["prior_bleu4", "all"].value == pytest.approx(prior)
    assert got["gain_bleu4", "all"].value == pytest.approx(got["bleu4", "all"].value - prior)
    other = [each.text for each in written._shuffled([written.Study(each) for each in TRUTH])]
    shuffled = slow_bleu(list(zip(map(report_words.cleaned, other), true, strict=True)), 4)
    assert got["shuffled_bleu4", "all"].value == pytest.approx(shuffled)
    difference = got["parser-f1", "all"].value - got["shuffled_parser-f1", "all"].value
    assert got["over_shuffled_parser-f1", "all"].value == pytest.approx(difference)
    assert got["prior_parser-recall", "all"].value == 0


def test_another_patients_report_is_never_ones_own():
    patients = [0, 0, 0, 1, 2, 2, 3, 4, 4]
    studies = [
        written.Study(Report(study_id=f"s{n}", subject_id=f"p{each}", text="Clear."))
        for n, each in enumerate(patients)
    ]
    found = written._shuffled(studies)
    assert all(a.subject_id != b.subject_id for a, b in zip(studies, found, strict=True))
    assert sorted(each.study_id for each in found) == sorted(each.report.study_id for each in studies)
    assert written._shuffled(studies) == found


def test_without_enough_patients_there_is_no_other_report(caplog):
    studies = [written.Study(Report(study_id=f"s{n}", subject_id="p", text="Clear.")) for n in range(3)]
    assert written._shuffled(studies) is None
    assert "more than half" in caplog.text


def test_two_models_are_compared_on_the_same_studies():
    got = scores(compare=TRUTH)
    assert got["other_bleu1", "all"].value == pytest.approx(1)
    assert got["difference_parser-f1", "all"].value == pytest.approx(0.5 - 1)
    assert got["difference_rouge_l", "all"].extra["p"] is not None


def test_only_the_split_is_scored_and_training_reports_are_of_train():
    truth = [report(n, each.text, split="test" if n < 3 else "train") for n, each in enumerate(TRUTH)]
    got = scores(FOUND, truth, split="test", train=[report(n, CLEAR, split="train") for n in (3, 4)])
    assert got["bleu1", "all"].n == 3
    assert got["bleu1", "all"].extra["split"] == "test"
    with pytest.raises(MedgroundError, match="no report is of val; it has"):
        scores(FOUND, truth, split="val")


def test_a_patient_of_the_training_reports_is_a_leak():
    with pytest.raises(MedgroundError, match="in both the scored records and --train"):
        scores(train=[Report(study_id="s9", subject_id="p1", text=CLEAR)])


@pytest.mark.slow
def test_reports_of_a_model_that_leaked_mark_every_score():
    marked = [report(n, each.text, model="m", leakage=True) for n, each in enumerate(FOUND)]
    assert all(
        each.extra["leakage"] is True and each.extra["model"] == "m" for each in scores(marked).values()
    )
    assert "leakage" not in scores()["bleu1", "all"].extra


@pytest.mark.parametrize(
    "found, problem",
    [
        (FOUND[:3], "no report for 1 of 4 scored studies"),
        ([*FOUND, report(9, CLEAR)], "the truth has no such study"),
        ([*FOUND, FOUND[0]], "the second report of this study; keep the report of one image"),
    ],
)
def test_reports_that_do_not_fit_the_truth_are_refused(found, problem):
    with pytest.raises((MedgroundError, BadRecord), match=problem):
        scores(found)


def test_a_true_report_without_findings_is_refused():
    with pytest.raises(BadRecord, match="no findings and no impression"):
        scores(truth=[report(0, "INDICATION: cough."), *TRUTH[1:]])


@pytest.mark.parametrize(
    "text, expected",
    [
        ("1. Clear lungs.  2. No effusion, or edema.", "clear lungs . no effusion or edema ."),
        (
            "Follow-up (CT) of the patient's 1.5 cm nodule.. Stable",
            "follow-up ct of the patients 15 cm nodule . stable .",
        ),
        ('Left/right "mass"; [xxxx]\nHeart: normal.', "leftright mass xxxx heart normal ."),
        ("...", ""),
        ("", ""),
    ],
)
def test_cleaning_is_r2gens(text, expected):
    assert " ".join(report_words.cleaned(text)) == expected


def test_raw_words_keep_punctuation_and_numbers():
    assert report_words.raw("A 1.5 cm follow-up.") == ["a", "1.5", "cm", "follow", "-", "up", "."]


def test_only_findings_and_impression_are_scored():
    whole = "INDICATION: cough.\nFINDINGS: The lungs\nare clear.\nIMPRESSION: No edema."
    assert report_words.text_of(report(0, whole)) == "The lungs are clear. No edema."
    cells = Report(study_id="s", findings="Clear.", impression="Normal.", indication="cough")
    assert report_words.text_of(cells) == "Clear. Normal."
    assert report_words.text_of(Report(study_id="s", last_paragraph="Clear.")) == "Clear."


@pytest.mark.slow
def test_the_command_scores_files(tmp_path):
    for name, reports in (("found", FOUND), ("truth", TRUTH)):
        medground.write(tmp_path / f"{name}.jsonl", reports)
    words = [
        "evaluate",
        f"{tmp_path}/found.jsonl",
        "--truth",
        f"{tmp_path}/truth.jsonl",
        "--protocol",
        "reports",
    ]
    result = CliRunner().invoke(
        cli, [*words, "--bootstrap-samples", "100", "--compare", f"{tmp_path}/truth.jsonl"]
    )
    assert result.exit_code == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert (lines[0]["protocol"], lines[0]["metric"], lines[0]["model"]) == ("reports", "bleu1", "m")
    assert {"difference_parser-f1", "over_shuffled_raw_bleu4"} <= {line["metric"] for line in lines}
    table = CliRunner().invoke(
        cli, [*words, "--bootstrap-samples", "100", "--table", "-o", f"{tmp_path}/scores.jsonl"]
    )
    assert table.exit_code == 0 and "shuffled" in table.stdout
