"""Files of every format that are empty, broken off or of another kind: one line with the place."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from medground import registry
from medground.cli.main import cli

FORMATS = list(registry.PREDICTION_FORMATS.built_in)
BOX = {"phrase_id": "p0", "image_id": "i0"}
GOOD = {
    "jsonl": BOX | {"text": "", "present": 1, "model": "", "boxes": [{"box": [10, 20, 40, 60], "score": 1}]},
    "grounding-dino": BOX | {"boxes": [[10, 20, 40, 60]], "scores": [1]},
    "owl": BOX | {"boxes": [[10, 20, 40, 60]], "scores": [1]},
    "radfact": {
        "example_id": "i0",
        "prediction": [{"text": "x", "boxes": [{"x_min": 0.1, "y_min": 0.2, "x_max": 0.4, "y_max": 0.6}]}],
    },
    "chexbench": {"image_path": ["i0.png"], "question": "x", "candidate_box": [[10, 20, 40, 60]]},
}


@pytest.fixture
def evaluate(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(text: str, kind: str, size: dict | None = None, *flags: str) -> tuple[int, str]:
        phrase = BOX | {"path": "i0.png", "text": "x", "subject_id": "s", "boxes": [[10, 20, 40, 60]]}
        phrase |= {"width": 100, "height": 100} if size is None else size
        Path("truth.jsonl").write_text(json.dumps(phrase) + "\n")
        args = ["evaluate", "--truth", "truth.jsonl", "--bootstrap-samples", "100", "--input-format", kind]
        result = CliRunner().invoke(cli, [*args, *flags], input=text)
        assert "Traceback" not in result.stderr and result.exit_code in (0, 1)
        return result.exit_code, result.stderr

    return run


@pytest.mark.parametrize("kind", FORMATS)
def test_an_empty_file_is_no_silence(evaluate, kind):
    code, stderr = evaluate("", kind)
    assert "<stdin>: " in stderr
    assert code == 1 or "no prediction for 1 of 1 phrases" in stderr


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    "text", ['{"a": 1}\n', '[{"a": 1}]', '{"phrase_id": "p0", "out', "a,b\n1,2\n", "\x00\xff"]
)
def test_other_keys_and_broken_files_are_named(evaluate, kind, text):
    code, stderr = evaluate(text, kind)
    assert code == 1 and stderr.count("\n") == 1 and "<stdin>" in stderr


@pytest.mark.parametrize("kind", GOOD)
def test_a_good_line_is_read_and_its_numbers_as_text_are_not(evaluate, kind):
    line = json.dumps(GOOD[kind])
    assert evaluate(line + "\n", kind) == (0, "")
    number = {"radfact": "0.4"}.get(kind, "40")
    code, stderr = evaluate(line.replace(f" {number}", f' "{number}"') + "\n", kind)
    assert (code == 1 and "<stdin>:1: " in stderr) or kind == "chexbench"


@pytest.mark.parametrize(
    "kind", [name for name in FORMATS if registry.PREDICTION_FORMATS[name].frame != "original"]
)
def test_an_image_without_a_size_is_named(evaluate, kind):
    texts = {
        "maira-2": "<box><x1><y2><x30><y40></box>",
        "radvlm": "[0.1, 0.2, 0.3, 0.4]", "llava": "[0.1, 0.2, 0.3, 0.4]",
        "chexagent-2": "<|box|>(1,2),(30,40)<|/box|>", "paligemma": "<loc0001><loc0002><loc0030><loc0040>",
        "florence-2": "x<loc_1><loc_2><loc_30><loc_40>",
    }  # fmt: skip
    line = GOOD.get(kind, BOX | {"output": texts.get(kind, '{"bbox_2d": [1, 2, 30, 40]}')})
    code, stderr = evaluate(json.dumps(line) + "\n", kind, {})
    assert code == 1 and "<stdin>:1: " in stderr and "width: the truth must have it" in stderr
