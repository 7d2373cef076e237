"""`medground write`: reports by the writer in a model folder, and what the command promises."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import toy
import toy_runs
from click.testing import CliRunner

from medground import jsonl
from medground.cli.main import cli
from medground.downstream import decoded_text, decoding, finding_thresholds, report_writing
from medground.errors import MedgroundError
from medground.models import encoders, grounder
from medground.objectives import knowledge, saved_heads
from medground.objectives.learner import Learner
from medground.records import Anatomy, Sentence

WORDS = ["small left effusion .", "no pneumothorax .", "the lungs are clear .", *knowledge.TEXTS]


def make(folder, objectives, texts=WORDS):
    torch.manual_seed(0)
    saved = grounder.save(folder, grounder.build("small", texts, image_size=64))
    heads = Learner(saved, objectives).objectives
    for each in heads.values():  # untrained, the end is as likely as any word: make reports of some length
        torch.nn.init.normal_(each.writer.leave.weight, std=0.5) if hasattr(each, "writer") else None
    saved_heads.save(folder, heads, saved.name)
    return folder


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    here = tmp_path_factory.mktemp("write")
    made = toy.make(here, count=7)
    for name in ("writer", "gk-mvlp"):
        make(here / name, [name])
    kept = ("image_id", "study_id", "subject_id", "path")
    lines = [{key: each[key] for key in kept} | {"site": "A"} for each in toy_runs.lines(made.phrases)]
    toy_runs.write(here / "images.jsonl", lines)
    return made


def run(cohort, model="writer", *args, images=None, **more):
    words = ["write", str(images or cohort.images), "--images", str(cohort.folder), "--device", "cpu"]
    flags = [str(each) for each in args]
    return CliRunner().invoke(
        cli, [*words, "--model", str(cohort.folder / model), "--max-tokens", "12", *flags], **more
    )


@pytest.mark.slow
def test_a_report_has_the_ids_of_its_image_and_parse_reports_takes_it(cohort):
    result = run(cohort)
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    given = toy_runs.lines(cohort.images)
    assert [{key: line[key] for key in given[0]} for line in lines] == given
    assert len({line["model"] for line in lines}) == 1
    parsed = CliRunner().invoke(cli, ["parse-reports", "--any-language"], input=result.stdout)
    assert parsed.exit_code == 0, parsed.output
    assert {json.loads(each)["image_id"] for each in parsed.stdout.splitlines()} <= {
        e["image_id"] for e in given
    }


@pytest.mark.slow
@pytest.mark.parametrize("model", ["writer", "gk-mvlp"])
def test_neither_batch_nor_run_changes_a_byte(cohort, model):
    anatomy = ["--anatomy", cohort.anatomy] if model == "gk-mvlp" else []
    first, *others = (run(cohort, model, "--batch-size", n, *anatomy).stdout for n in (8, 1, 3, 8))
    assert first and others == [first] * 3
    greedy = {run(cohort, model, "--beams", 1, "--batch-size", n, *anatomy).stdout for n in (7, 2)}
    assert len(greedy) == 1


@pytest.mark.slow
def test_regions_change_what_gk_mvlp_writes_from(cohort):
    model = report_writing.load(cohort.folder / "gk-mvlp")
    picture = report_writing.letterboxed.read(cohort.folder / "image0.png", 64)
    [line] = [each for each in toy_runs.lines(cohort.anatomy) if each["image_id"] == "image0"]
    anatomy = Anatomy(**line | {"regions": [report_writing_region(each) for each in line["regions"]]})
    (with_boxes, _), (without, hidden) = (model._visual_tokens([picture], [each]) for each in (anatomy, None))
    assert with_boxes.shape == without.shape == (1, 16 + len(knowledge.NAMES), 128)
    assert torch.equal(with_boxes[:, :16], without[:, :16])
    assert not torch.allclose(with_boxes[:, 16:], without[:, 16:])
    assert hidden.shape == (1, 16 + len(knowledge.NAMES)) and not hidden[:, :16].any()
    assert torch.equal(~hidden[:, 16:], model.chances([picture], [None]) >= 0.5)


def report_writing_region(values):
    from medground.records import Region

    return Region(name=values["name"], box=tuple(values["box"]))


def val_sentences(cohort, to):
    kept = ("study_id", "sentence_id", "text", "triplets")
    lines = [{key: each[key] for key in kept} for each in toy_runs.lines(cohort.pairs)]
    more = {"section": "findings", "start": 0}
    return toy_runs.write(to, [each | more | {"end": len(each["text"])} for each in lines])


@pytest.mark.slow
def test_validation_reports_set_the_thresholds_of_findings(cohort, tmp_path):
    sentences = val_sentences(cohort, tmp_path / "val.jsonl")
    anatomy = {e["image_id"]: jsonl.record_of(e, Anatomy) for e in toy_runs.lines(cohort.anatomy)}
    model = report_writing.load(cohort.folder / "gk-mvlp")
    with open(sentences, "rb") as stream:
        images = finding_thresholds.validation_images(
            jsonl.read(stream, Sentence, jsonl.BadLines(None)), anatomy
        )
    finding_thresholds.fit(model, images, cohort.folder, batch_size=2)
    found = model.objective.thresholds
    assert not torch.equal(found, torch.full_like(found, 0.5))
    flags = ["--anatomy", cohort.anatomy, "--val", sentences]
    tuned, again = (run(cohort, "gk-mvlp", *flags, "--batch-size", n) for n in (8, 3))
    assert tuned.exit_code == 0, tuned.output
    assert tuned.stdout == again.stdout != run(cohort, "gk-mvlp", *flags[:2]).stdout


def test_thresholds_have_the_best_f1_and_rare_findings_share_one():
    made = np.random.default_rng(0)
    labels = made.choice([1.0, 0.0, 0.0, -1.0], (60, 3))
    labels[:, 2] = 0
    labels[:4, 2] = 1
    chances = (labels * 0.2 + made.random((60, 3))).round(2)
    found = finding_thresholds.thresholds(chances, labels)

    def best(scores, truth):
        scores, truth = scores[truth >= 0], truth[truth >= 0]
        f1 = {t: 2 * (truth[scores >= t]).sum() / ((scores >= t).sum() + truth.sum()) for t in scores}
        return max(t for t, value in f1.items() if value == max(f1.values()))

    assert found.tolist() == [
        best(chances[:, 0], labels[:, 0]),
        best(chances[:, 1], labels[:, 1]),
        best(chances.ravel(), labels.ravel()),
    ]


@pytest.mark.slow
def test_thresholds_that_cannot_be_set_are_refused(cohort, tmp_path):
    sentences = val_sentences(cohort, tmp_path / "val.jsonl")
    alone = run(cohort, "gk-mvlp", "--val", sentences)
    assert (alone.exit_code, "--val requires --anatomy" in alone.stderr) == (2, True)
    both = ["--anatomy", cohort.anatomy, "--val"]
    other = run(cohort, "writer", *both, sentences)
    assert (other.exit_code, "need a model of gk-mvlp" in other.stderr) == (1, True)
    lines = [line | {"study_id": "unknown"} for line in toy_runs.lines(sentences)]
    none = run(cohort, "gk-mvlp", *both, toy_runs.write(tmp_path / "none.jsonl", lines))
    assert (none.exit_code, "no image of --anatomy" in none.stderr) == (1, True)


def test_the_tokens_are_those_of_training(cohort):
    """The visual tokens and the next-token logits are those that the lm loss uses."""
    model = report_writing.load(cohort.folder / "writer")
    picture = report_writing.letterboxed.read(cohort.folder / "image1.png", 64)
    memory, hidden = model._visual_tokens([picture], [None])
    planes = picture.picture()[None]
    images = model.model.network.encode_images(planes[:, :1], planes[:, 1:])
    assert torch.equal(memory, images.patches) and torch.equal(hidden, ~images.visible)
    how = model.decoding(most=6)
    [(ids, ended)] = decoding.decode(
        lambda tokens, sources: model.objective.writer.logits(tokens, memory[sources], hidden[sources])[
            :, -1
        ],
        1,
        how,
    )
    assert (how.start, how.end) == (2, 2) and 0 in how.never and 1 in how.never
    given = torch.tensor([[how.start, *ids]])
    loss = model.objective.writer(given, torch.ones_like(given).bool(), memory, hidden)
    scores = torch.stack(
        [
            model.objective.writer.logits(given[:, : n + 1], memory, hidden)[0, -1].log_softmax(0)[token]
            for n, token in enumerate([*ids, how.end])
        ]
    )
    assert (-loss).tolist() == pytest.approx(scores.tolist(), abs=1e-4)
    assert model.texts([picture], [None], how) == [
        (decoded_text.report_of(model.model.tokenizer, ids), ended)
    ]


@torch.inference_mode()
def test_a_writer_works_on_patches_with_further_columns(cohort):
    torch.manual_seed(0)
    model = grounder.build("small", WORDS, image_size=64, architecture="text-query")
    writing = report_writing.ReportModel(model, Learner(model, ["writer"]).objectives["writer"].eval())
    picture = report_writing.letterboxed.read(cohort.folder / "image0.png", 64)
    assert writing._visual_tokens([picture], [None])[0].shape == (1, 16, 128)
    assert len(writing.texts([picture] * 2, [None] * 2, writing.decoding(most=3, beams=2))) == 2


@pytest.mark.slow
def test_an_interrupted_run_is_continued_with_the_same_bytes(cohort, tmp_path):
    whole, target = run(cohort).stdout_bytes, tmp_path / "out.jsonl"
    assert run(cohort, "writer", "-o", target).exit_code == 0
    assert target.read_bytes() == whole
    records = whole.splitlines(keepends=True)
    first = tmp_path / "first.jsonl"
    first.write_bytes(b"".join((cohort.folder / "images.jsonl").read_bytes().splitlines(keepends=True)[:3]))
    assert (
        run(cohort, "writer", "-o", target, images=first).exit_code == 0
    )  # a shorter input, then a longer one
    assert target.read_bytes() == b"".join(records[:3])
    assert run(cohort, "writer", "-o", target, "--resume", "--batch-size", 2).exit_code == 0
    assert target.read_bytes() == whole
    other = run(cohort, "writer", "-o", target, "--resume", "--beams", 1)
    assert (other.exit_code, "another beams" in other.output) == (1, True)
    other = run(cohort, "gk-mvlp", "-o", target, "--resume")
    assert other.exit_code == 1


@pytest.mark.slow
def test_an_unreadable_image_is_rejected_and_the_rest_is_written(cohort, tmp_path):
    lines = toy_runs.lines(cohort.images)
    lines[2]["path"] = "missing.png"
    images = toy_runs.write(tmp_path / "images.jsonl", lines)
    stopped = run(cohort, images=images)
    assert (stopped.exit_code, "missing.png" in stopped.output) == (1, True)
    done = run(cohort, "writer", "--rejects", tmp_path / "bad.jsonl", images=images)
    assert done.exit_code == 0
    assert toy_runs.lines(tmp_path / "bad.jsonl") == [lines[2]]
    kept = run(cohort).stdout.splitlines()
    assert done.stdout.splitlines() == kept[:2] + kept[3:]
    none = toy_runs.write(tmp_path / "none.jsonl", lines[2:3])
    result = run(cohort, "writer", "--rejects", tmp_path / "bad.jsonl", images=none)
    assert (result.exit_code, "every image was rejected" in result.output) == (1, True)


def test_a_cut_report_is_counted(cohort):
    result = run(cohort, "writer", "--max-tokens", 1)
    assert result.exit_code == 0
    assert "reports were cut at 1 tokens; see --max-tokens" in result.stderr


@pytest.mark.slow
def test_reports_of_a_model_whose_training_leaked_are_marked(cohort, tmp_path):
    saved = grounder.save(tmp_path, grounder.load(cohort.folder / "writer"), {"leakage": True})
    saved_heads.save(tmp_path, Learner(saved, ["writer"]).objectives, saved.name)
    for model, marked in ((tmp_path, True), (cohort.folder / "writer", None)):
        result = run(cohort, model, "--max-tokens", 2)
        assert {json.loads(line).get("leakage") for line in result.stdout.splitlines()} == {marked}


@pytest.mark.slow
def test_a_model_without_a_writer_is_refused(cohort, tmp_path):
    torch.manual_seed(0)
    saved = grounder.save(tmp_path, grounder.build("small", WORDS, image_size=64))
    with pytest.raises(MedgroundError, match=r"no heads\.safetensors"):
        report_writing.load(tmp_path)
    saved_heads.save(tmp_path, Learner(saved, ["asg"]).objectives, saved.name)
    with pytest.raises(
        MedgroundError, match="one objective that writes reports, such as gk-mvlp or writer; it has asg"
    ):
        report_writing.load(tmp_path)


def words(text, tokenizer):
    ids = tokenizer(text)["input_ids"]
    return decoded_text.report_of(tokenizer, ids)


@pytest.mark.parametrize(
    "sentence",
    [
        "There is a small left effusion.",
        "A follow-up film and/or CT: the patient's 1.5 cm nodule (seen in 2019) is 20% larger!",
        "Kerley B lines; dr. ___ was called?",
        "Heart size 12, not enlarged.",
    ],
)
def test_words_punctuation_and_numbers_come_back(sentence):
    tokenizer = encoders.build_tokenizer(["there is a small left effusion", "heart size enlarged not"])
    found = words(sentence, tokenizer)
    assert found[0].isupper() and found.lower() == sentence.lower()


def test_sentences_are_separated_and_empty_ones_left_out():
    tokenizer = encoders.build_tokenizer(["clear lungs no effusion"])
    clear, none = (tokenizer(each)["input_ids"] for each in ("clear lungs", "no effusion ."))
    sep = tokenizer.sep_token_id
    assert decoded_text.report_of(tokenizer, [*clear, sep, *none[1:], sep]) == "Clear lungs. No effusion."
    assert decoded_text.report_of(tokenizer, []) == decoded_text.report_of(tokenizer, [sep, sep]) == ""


def test_a_report_has_each_sentence_once():
    tokenizer = encoders.build_tokenizer(["clear lungs no effusion"])
    texts = ("clear lungs .", "no effusion .", "clear lungs", "no effusion .", "clear lungs no effusion .")
    ids = [n for text in texts for n in tokenizer(text)["input_ids"][1:]]
    found = decoded_text.report_of(tokenizer, ids)
    assert found == "Clear lungs. No effusion. Clear lungs no effusion."


def test_other_tokenizers_keep_their_spaces_and_case():
    def decode(ids, **plain):
        assert plain == {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
        return " Left - sided IJ line , tip in SVC" if ids else ""

    tokenizer = SimpleNamespace(sep_token_id=2, all_special_ids=[0, 2], decode=decode)
    assert decoded_text.report_of(tokenizer, [5, 6, 2]) == "Left - sided IJ line , tip in SVC."


@pytest.mark.slow
def test_a_writer_on_a_frozen_encoder_learns_the_reports_of_its_training(cohort, tmp_path):
    texts = {each["text"] for each in toy_runs.lines(cohort.pairs)}
    flags = ["--objective", "writer", "--freeze", "image-encoder", "--image-size", 64, "--lr", 0.003]
    toy_runs.pretrain(cohort, tmp_path / "run", *flags, "--steps", 100, "--augment", "none")
    heads = saved_heads.names_of(tmp_path / "run")
    assert heads == ["writer"]
    result = run(cohort, tmp_path / "run", "--beams", 2)
    assert result.exit_code == 0, result.output
    written = {json.loads(line)["text"] for line in result.stdout.splitlines()}
    assert written and {text.lower().rstrip(".") for text in written} <= texts
