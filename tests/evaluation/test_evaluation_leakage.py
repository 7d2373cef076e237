"""The leakage check before scoring: training patients are named and refused."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from keyed import recorded

from medground import checkpoints, leakage
from medground.cli.main import cli
from medground.records import Phrase


def phrase(number: int, **more: object) -> dict:
    own = {"image_id": f"i{number}", "phrase_id": f"p{number}", "subject_id": f"s{number}", "path": "x.png"}
    return own | {"width": 100, "height": 100, "text": "nodule", "boxes": [[10, 10, 30, 30]]} | more


def answer(number: int, **more: object) -> dict:
    found = [{"box": [10, 10, 30, 30], "score": 0.5}]
    return {
        "image_id": f"i{number}", "phrase_id": f"p{number}", "text": "nodule", "boxes": found, "present": 1,
        "model": "m1",
    } | more  # fmt: skip


def lines(*records: dict) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def model_of(folder: Path, record: dict | None) -> Path:
    folder.mkdir()
    config = {} if record is None else {"record": record}
    checkpoints.save(folder / "model.safetensors", {"weight": torch.zeros(1)}, config)
    return folder


@pytest.fixture
def evaluate(tmp_path, monkeypatch):
    """Run `medground evaluate` on answers to truth.jsonl: three phrases, one of another split."""
    monkeypatch.chdir(tmp_path)
    splits = ("test", "test", "train")
    Path("truth.jsonl").write_text(lines(*(phrase(n, split=split) for n, split in enumerate(splits))))

    def run(*flags: str, **more: object):
        answers = lines(*(answer(n, **more) for n in range(3)))
        command = [
            "evaluate",
            "--truth",
            "truth.jsonl",
            "--bootstrap-samples",
            "100",
            "--split",
            "test",
            *flags,
        ]
        return CliRunner().invoke(cli, command, input=answers)

    return run


def test_a_phrase_is_known_by_its_subject_and_by_its_image():
    scored = [
        Phrase(image_id=f"i{n}", phrase_id="p", subject_id=subject, path="x", text="")
        for n, subject in enumerate(("s0", "s1", None))
    ]
    seen = leakage.Patients.trained(recorded("s1", "i2", "s9"))
    assert leakage.overlap(scored, seen, "x", "y") == [leakage.Leak(2, "x", 2, "y")]
    assert leakage.overlap(scored, leakage.Patients.trained({"subjects": []}), "x", "y") == []


def test_patients_that_the_model_was_trained_on_are_counted_named_and_refused(evaluate, tmp_path):
    model = model_of(tmp_path / "model", recorded("s1", "s0", "s7"))
    result = evaluate("--model", str(model))
    assert result.exit_code == 1 and result.stdout == ""
    message = "2 subjects are in both the scored records and the training data of --model"
    assert f"{message} (first: record 1 of the scored records)" in result.stderr
    assert "--allow-leakage" in result.stderr


def test_allowed_leakage_marks_every_score(evaluate, tmp_path):
    model = model_of(tmp_path / "model", recorded("s1"))
    result = evaluate("--model", str(model), "--allow-leakage")
    assert result.exit_code == 0, result.stderr
    scores = [json.loads(line) for line in result.stdout.splitlines()]
    assert scores and all(each["leakage"] is True for each in scores)


def test_a_model_trained_on_others_leaves_no_mark(evaluate, tmp_path):
    model = model_of(tmp_path / "model", recorded("s2"))
    result = evaluate("--model", str(model))
    assert result.exit_code == 0, result.stderr
    assert not any("leakage" in json.loads(line) for line in result.stdout.splitlines())
    assert "not the model that made these predictions" in result.stderr


def marks(result) -> set[bool]:
    assert result.exit_code == 0, result.stderr
    return {json.loads(line).get("leakage", False) for line in result.stdout.splitlines()}


def test_a_model_whose_training_was_allowed_to_leak_marks_scores_of_anybody(evaluate, tmp_path):
    model = model_of(tmp_path / "model", recorded("s2") | {"leakage": True})
    result = evaluate("--model", str(model))
    assert marks(result) == {True}
    assert "the model was trained on patients of its validation or test set" in result.stderr


def test_answers_carry_the_mark_where_the_model_is_not_at_hand(evaluate, tmp_path):
    assert marks(evaluate(leakage=True)) == {True}
    assert marks(evaluate()) == {False}
    Path("other.jsonl").write_text(lines(*(answer(n, leakage=True) for n in range(3))))
    assert marks(evaluate("--compare", "other.jsonl")) == {True}


def test_an_export_carries_the_training_record_of_its_model(evaluate, tmp_path):
    (tmp_path / "export").mkdir()
    record = recorded("s1")
    (tmp_path / "export/engine.json").write_text(json.dumps({"format": 1, "model": "m1", "record": record}))
    result = evaluate("--model", "export")
    assert (result.exit_code, "(first: record 2 of the scored records)" in result.stderr) == (1, True)


@pytest.mark.parametrize("record", [None, {"step": 3}])
def test_a_model_without_training_subjects_in_its_record_is_warned_of(evaluate, tmp_path, record):
    result = evaluate("--model", str(model_of(tmp_path / "model", record)))
    assert result.exit_code == 0, result.stderr
    assert "does not record its training subjects" in result.stderr


def test_a_patient_in_another_split_of_the_truth_is_refused(evaluate):
    Path("truth.jsonl").write_text(
        lines(phrase(0, split="test"), phrase(1, split="test"), phrase(2, split="train", subject_id="s0"))
    )
    result = evaluate()
    assert result.exit_code == 1
    message = "1 subject is in both the scored records and another split of --truth"
    assert f"{message} (first: record 1 of the scored records)" in result.stderr
    assert evaluate("--allow-leakage").exit_code == 0


def test_a_folder_without_a_model_is_named(evaluate, tmp_path):
    (tmp_path / "empty").mkdir()
    result = evaluate("--model", "empty")
    assert result.exit_code == 1 and "empty: no model.safetensors" in result.stderr


@pytest.mark.slow
def test_the_training_record_is_read_without_torch(evaluate, tmp_path):
    model_of(tmp_path / "model", {"subjects": []})
    Path("found.jsonl").write_text(lines(answer(0)))
    Path("own.jsonl").write_text(lines(phrase(0)))
    code = """
import sys
from click.testing import CliRunner
from medground.cli.main import cli
result = CliRunner().invoke(cli, ["evaluate", "found.jsonl", "--truth", "own.jsonl", "--model", "model"])
print(result.exit_code, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "False"]
