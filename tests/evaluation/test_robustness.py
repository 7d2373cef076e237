"""Probes: models that are made to look, to read or to do neither have different scores."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import toy
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from medground.cli.main import cli
from medground.errors import MedgroundError
from medground.evaluation import robustness, run, wordings
from medground.evaluation.report import table
from medground.evaluation.stats import scoring
from medground.evaluation.stats.scoring import Resampling
from medground.records import Grounding, Phrase, ScoredBox
from medground.reports import held_out, laterality, lexicon, negation
from medground.reports.negation import negated_forms
from medground.reports.paraphrase import paraphrases
from medground.reports.parser import Parser

WIDTH, HEIGHT = 40, 20
LEFT, RIGHT = (24.0, 4.0, 36.0, 16.0), (4.0, 4.0, 16.0, 16.0)  # the patient's sides


# --- wordings -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("small Left effusion", "small Right effusion"),
        ("RIGHT-sided pneumothorax", "LEFT-sided pneumothorax"),
        ("RLL atelectasis", "LLL atelectasis"),
        ("L lower lobe opacity", "R lower lobe opacity"),
        ("left lower and left upper lobe", "right lower and right upper lobe"),
        ("left and right effusions", None),
        ("bilateral effusions, left larger", None),
        ("right middle lobe opacity", None),
        ("right-sided heart failure", None),
        ("left ventricular enlargement", None),
        ("left atrium above a right effusion", "left atrium above a left effusion"),
        ("drain left in place", None),
        ("cleft, upright, l. opacity", None),
        ("big heart", None),
        ("effusion on the left.", "effusion on the right."),
    ],
)
def test_the_other_side(text, other):
    assert laterality.swap(text) == other


@given(
    st.lists(
        st.sampled_from(["left", "Right", "LLL", "rul", "lt", "RT", "L", "opacity", "heart", "in"]),
        max_size=6,
    )
)
def test_the_other_side_twice_is_the_first(words):
    text = " ".join(words)
    other = laterality.swap(text)
    if other is not None:
        assert laterality.swap(other) == text != other


@pytest.mark.parametrize(
    ("text", "denied"),
    [
        ("Small left effusion", "no small left effusion"),
        ("There is a large effusion", "There is no large effusion"),
        ("the heart is big", "no heart is big"),
        ("RLL opacity", "no RLL opacity"),
        ("no effusion", None),
        ("lungs are clear", None),
        (" ", None),
    ],
)
def test_negation(text, denied):
    assert negation.negate(text) == denied


def test_a_synonym_takes_the_place_of_the_first_finding():
    assert (
        wordings.synonym("Large Pleural  effusion on the left")
        == "Large pleural fluid collection on the left"
    )
    assert wordings.synonym("PTX") == "pneumothorax"
    assert wordings.synonym("rib fracture") is None


@pytest.mark.parametrize(
    ("text", "denied"),
    [
        ("Small left effusion", "negative for small left effusion"),
        ("There is a large effusion", "negative for large effusion"),
        ("the heart is big", None),
        ("no effusion", None),
    ],
)
def test_a_negation_that_is_held_out(text, denied):
    assert negation.negate_held_out(text) == denied


@pytest.mark.slow
def test_no_wording_of_fine_tuning_is_a_held_out_one():
    parser, queries = Parser(), set()
    for name, other in held_out.names().items():
        phrase = f"small left {name}"
        forms = {phrase, *paraphrases(phrase, parser, 10_000)}
        queries |= {form.lower() for each in forms for form in (each, *negated_forms(each, parser))}
        assert not any(re.search(rf"\b{other}\b", form) for form in queries), other
        assert wordings.new_synonym(phrase) == f"small left {other}"
    assert len(queries) > 1_000 and negation.negate_held_out("small left effusion") not in queries
    assert not any("negative" in form for form in queries)


def test_what_is_held_out_is_the_same_finding_to_the_parser():
    parser = Parser()
    for name, other in held_out.names().items():
        said = [parser.read(f"left {each}", 0, 5 + len(each), [])[0] for each in (name, other)]
        assert {(t.region, t.finding) for t in said[0]} == {(t.region, t.finding) for t in said[1]}, other
        denied = negation.negate_held_out(f"left {name}")
        assert {t.existence for t in parser.read(denied, 0, len(denied), [])[0]} == {"absent"}, name


def test_every_synonym_is_the_same_finding_to_the_parser():
    known = lexicon.load()
    for finding, names in wordings.table().items():
        for name in {*names, *names.values()}:
            node = known.trie
            for word in name.split():
                node = node[word]
            assert ("F", finding) in node[""], name


# --- probes ---------------------------------------------------------------------------------------------


def image_of(side: str) -> np.ndarray:
    """An image that is bright where the finding of this side lies, dark elsewhere."""
    image = np.zeros((HEIGHT, WIDTH), dtype=np.float32)
    x1, y1, x2, y2 = map(int, LEFT if side == "left" else RIGHT)
    image[y1:y2, x1:x2] = 1
    return image


def phrase(number: int, side: str, **more) -> Phrase:
    own = {"image_id": f"i{number}", "phrase_id": "p", "subject_id": f"s{number}", "path": f"{side}{number}"}
    box = LEFT if side == "left" else RIGHT
    return Phrase(**own, width=WIDTH, height=HEIGHT, text=f"{side} effusion", boxes=[box], **more)


def load(path: str) -> np.ndarray:
    return image_of("left" if path.startswith("left") else "right")


def answer(phrase: Phrase, box, present: float = 0.9) -> Grounding:
    found = [ScoredBox(box=box, score=present)]
    return Grounding(image_id="", phrase_id="", text=phrase.text, boxes=found, present=present, model="m")


def looks(phrases, image):
    """A model that finds what is bright, and reads nothing."""
    middle = image.shape[1] // 2
    box = (1, 1, 39, 19) if not image.any() else LEFT if image[:, middle:].any() else RIGHT
    return [answer(each, box) for each in phrases]


def reads(phrases, image):
    """A model that goes by the words alone, and knows what "no" means."""
    return [
        answer(p, LEFT if "left" in p.text else RIGHT, 0.1 if p.text.startswith("no ") else 0.9)
        for p in phrases
    ]


PHRASES = [phrase(n, side, category=side) for n, side in enumerate(("left", "right", "left"))]


def figures(model, phrases=PHRASES, prior=None) -> dict[tuple[str, str], float]:
    measured = robustness.measure(list(robustness.probe(phrases, load, model)), prior)
    scores = scoring.score(measured, Resampling(100, 0))
    return {(s.group.removeprefix("probe:"), s.metric): s.value for s in scores if s.value is not None}


def test_a_model_that_looks_follows_the_picture_and_not_the_words():
    found = figures(looks)
    assert found["unchanged", "miou"] == 1
    assert found["mirrored image", "miou"] == found["mirrored image", "same_mirrored"] == 1
    assert found["mirrored image", "same"] == 0 and found["mirrored image", "changed_side"] == 1
    assert found["blank image", "miou"] == pytest.approx(144 / (38 * 18))
    assert found["other side", "changed_side"] == 0 and found["other side", "same"] == 1
    assert found["negated", "absent"] == 0


def test_a_model_that_reads_follows_the_words_and_not_the_picture():
    found = figures(reads)
    assert found["blank image", "miou"] == found["other patient", "miou"] == 1
    assert found["mirrored image", "same"] == 1 and found["mirrored image", "same_mirrored"] == 0
    assert found["other side", "changed_side"] == 1 and found["other side", "miou"] == 0
    assert (found["negated", "absent"], found["unchanged", "absent"]) == (1, 0)
    assert found["synonym", "same"] == 1


def test_the_prior_stands_beside_the_blank_image():
    found = figures(reads, prior=lambda phrase, width, height: (0, 0, width, height))
    assert found["blank image", "prior_miou"] == found["unchanged", "prior_miou"] == pytest.approx(144 / 800)
    assert ("negated", "prior_miou") not in found


def test_another_patients_image_is_the_next_of_somebody_else_and_boxes_go_by_shares():
    same = replace(phrase(1, "right"), subject_id="s0")
    answers = list(robustness.probe([phrase(0, "left"), same, phrase(2, "left")], load, looks))
    shown = [each.shown for each in answers if each.probe == "other patient"]
    assert shown == ["left2", "left2", "left0"]

    def small(path):
        return load(path)[::2, ::2] if path == "left2" else load(path)

    other = [replace(phrase(2, "left"), width=WIDTH // 2, height=HEIGHT // 2)]
    answers = list(
        robustness.probe(
            [phrase(0, "left"), *other], small, lambda p, i: [answer(e, (2, 2, 4, 4)) for e in p]
        )
    )
    assert next(e for e in answers if e.shown == "left2" and e.probe == "other patient").boxes.tolist() == [
        [4, 4, 8, 8]
    ]


def test_a_patient_with_and_without_the_letter_of_mimic_cxr_is_not_somebody_else():
    same = [replace(phrase(0, "left"), subject_id="p7"), replace(phrase(1, "right"), subject_id="7")]
    assert "other patient" not in {each.probe for each in robustness.probe(same, load, looks)}


def test_a_foreign_phrase_is_of_somebody_else_and_of_no_category_of_the_image():
    phrases = [
        phrase(0, "left", category="Effusion"),
        replace(phrase(1, "right", category="Edema"), subject_id="s0", text="edema of the same patient"),
        replace(phrase(2, "left", category="Effusion"), text="another effusion"),
        replace(phrase(3, "left", category="Edema"), text="edema"),
        replace(phrase(4, "left"), text="no category"),
    ]
    answers = list(robustness.probe(phrases, load, reads))
    found = {each.shown: each.text for each in answers if each.probe == robustness.FOREIGN}
    assert found == {
        "left0": "edema",
        "right1": "another effusion",
        "left2": "edema",
        "left3": "left effusion",
    }
    values = figures(
        lambda some, image: [answer(e, LEFT, 0.1 if "edema" in e.text else 0.9) for e in some], phrases
    )
    assert values[robustness.FOREIGN, "absent"] == 0.5
    assert not {(robustness.FOREIGN, name) for name in ("miou", "same", "changed_side")} & values.keys()


def test_one_patient_alone_has_no_other_and_a_phrase_without_a_side_no_other_side():
    alone = [replace(phrase(0, "left"), text="big heart")]
    assert {each.probe for each in robustness.probe(alone, load, looks)} == {
        "unchanged", "blank image", "mirrored image", "negated", "held-out negation",
    }  # fmt: skip


def test_an_image_in_another_size_than_the_boxes_is_refused():
    with pytest.raises(
        MedgroundError, match="boxes of a phrase are for 400 x 20 pixels, the image has 40 x 20"
    ):
        list(robustness.probe([replace(PHRASES[0], width=400)], load, looks))


@pytest.mark.slow
@given(st.lists(st.tuples(*[st.floats(0, 50)] * 4), max_size=4), st.integers(50, 90))
def test_boxes_mirrored_twice_are_where_they_were(found, width):
    boxes = np.array(found, dtype=float).reshape(-1, 4)
    twice = robustness.mirrored_boxes(robustness.mirrored_boxes(boxes, width), width)
    assert twice == pytest.approx(boxes, abs=1e-9)


def test_the_table_has_a_row_a_probe():
    measured = robustness.measure(list(robustness.probe(PHRASES, load, reads)))
    heads, rows = table.grid([s for s in scoring.score(measured, Resampling(100, 0)) if s.value is not None])
    assert heads[:3] == ["probe", "n", "miou"]
    assert [row[0] for row in rows if row[0] != robustness.SIDED] == list(robustness.PROBES)


def test_a_flipped_image_is_scored_by_whether_the_phrase_names_a_side():
    sideless = [replace(phrase(3, "left"), text="effusion"), replace(phrase(4, "left"), text="bilateral")]
    found = figures(reads, [*PHRASES, *sideless])
    assert found["mirrored image", "same_mirrored"] == 0  # this model answers "right" to what names no side
    answers = list(robustness.probe([*PHRASES, *sideless], load, looks))
    counts = {s.group: s.n for s in scoring.score(robustness.measure(answers), Resampling(100, 0))}
    assert counts["probe:mirrored image"] == 5
    assert (counts[f"probe:{robustness.SIDED}"], counts[f"probe:{robustness.SIDELESS}"]) == (3, 2)

    def sides_only(phrases, image):
        """Goes by the side where one is named, by the picture else."""
        return [(reads if "left" in p.text or "right" in p.text else looks)([p], image)[0] for p in phrases]

    found = figures(sides_only, [*PHRASES, *sideless])
    assert found[robustness.SIDED, "same_mirrored"] == 0 and found[robustness.SIDELESS, "same_mirrored"] == 1


# --- the command ----------------------------------------------------------------------------------------


@pytest.fixture
def run_probes(tmp_path, monkeypatch):
    """Run `medground evaluate --probes` on toy images; `reads` stands in for the model."""
    monkeypatch.chdir(tmp_path)
    cohort = toy.make(tmp_path, count=4)
    (tmp_path / "model").mkdir()

    def evaluate(model, images, device, inputs, how):
        from medground import images as files

        return run.evaluate_probes(
            replace(inputs, model=None), lambda path: files.load(images / path), reads, how
        )

    monkeypatch.setattr("medground.cli.evaluate_probes.evaluate", evaluate)

    def call(*flags: str):
        return CliRunner().invoke(
            cli, ["evaluate", cohort.phrases, "--probes", "--bootstrap-samples", "100", *flags]
        )

    return call


def test_probes_give_scores_a_table_and_a_page_with_pictures(run_probes):
    result = run_probes("--model", "model", "--table", "--html", "page.html", "-o", "scores.jsonl")
    assert result.exit_code == 0, result.stderr
    scores = [json.loads(line) for line in Path("scores.jsonl").read_text().splitlines()]
    assert {each["protocol"] for each in scores} == {"probes"}
    assert {each["model"] for each in scores} == {"m"} and all("truth" in each for each in scores)
    assert re.search(r"mirrored image +4 ", result.stdout)
    text = Path("page.html").read_text()
    assert "negated: no bright spot" in text and text.count("data:image/jpeg") == 4 * 6


def test_probes_of_no_phrase_make_an_empty_page(run_probes):
    Path("phrases.jsonl").write_text(
        "".join(
            json.dumps(json.loads(line) | {"boxes": []}) + "\n"
            for line in Path("phrases.jsonl").read_text().splitlines()
        )
    )
    result = run_probes("--model", "model", "--table", "--html", "page.html")
    assert (result.exit_code, result.stdout) == (0, "") and Path("page.html").exists()


def test_probes_of_a_split_that_no_phrase_is_of_are_refused(run_probes):
    result = run_probes("--model", "model", "--split", "nope", "--html", "page.html")
    assert result.exit_code == 1 and "split: no phrase is of nope" in result.stderr


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ((), "--probes needs --model"),
        (("--model", "model", "--truth", "phrases.jsonl"), "leave out --truth"),
        (("--model", "model", "--protocol", "single-box"), "leave out --protocol"),
        (("--model", "model", "--input-format", "csv"), "leave out --input-format"),
    ],
)
def test_what_probes_do_not_go_with_is_a_usage_error(run_probes, flags, problem):
    result = run_probes(*flags)
    assert result.exit_code == 2 and problem in result.stderr


def test_without_probes_the_truth_is_needed(tmp_path):
    result = CliRunner().invoke(cli, ["evaluate", "-"], input="")
    assert result.exit_code == 2 and "Missing option '--truth'" in result.stderr
