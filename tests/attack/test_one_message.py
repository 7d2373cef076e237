"""Hostile values end in one message, never in a traceback or a forged line."""

import io
import json
import logging
import os
import sys
import time
from functools import partial
from importlib.util import find_spec

import click
import numpy as np
import pytest
from click.testing import CliRunner
from commands import COMMANDS, IDS, command_of
from samples import IMAGE, REPORT, SENTENCE

import medground.__main__ as program
from medground import strict_json
from medground.answers import texts
from medground.cli import options
from medground.cli.main import cli
from medground.cli.messages import Formatter
from medground.errors import BadRecord, MedgroundError, printable
from medground.evaluation.report import table
from medground.records import Grounding, Phrase

PHRASE = {
    "image_id": "i1",
    "phrase_id": "p1",
    "path": "i1.png",
    "width": 100,
    "height": 80,
    "text": "effusion",
}
TRUTH = PHRASE | {"boxes": [[1, 2, 30, 40]], "category": "[/b]\x1b[31m[link=x]"}
GROUNDING = {"image_id": "i1", "phrase_id": "p1", "text": "", "boxes": [], "present": 0.5, "model": "m"}


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The working folder; `files(name, *lines)` writes a file of JSON lines."""
    monkeypatch.chdir(tmp_path)

    def write(name, *lines):
        text = "".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in lines)
        (tmp_path / name).write_text(text, encoding="utf-8")
        return name

    write("truth.jsonl", TRUTH)
    return write


def run(*args, code=1, **more):
    """Run medground; return its stderr. The exit code is checked, and that no other error was raised."""
    result = CliRunner().invoke(cli, list(map(str, args)), **more)
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == code, result.stderr
    return result.stderr


def evaluate(name, *flags, code=1):
    return run("evaluate", name, "--truth", "truth.jsonl", "--bootstrap-samples", 100, *flags, code=code)


@pytest.mark.parametrize(
    "text", ["a\nb", "\x1b[2J", "\r", "\u202eabc", "\u2028", "\x85", "\udc80", "\x00", "\u200b"]
)
def test_control_characters_are_escaped(text):
    assert printable(text).isprintable()
    for error in (MedgroundError(text), BadRecord(text, text).at(text, 1)):
        assert str(error).isprintable()
    record = logging.LogRecord("x", logging.WARNING, "x", 1, "an id: %s", (text,), None)
    assert Formatter("%(levelname)s: %(message)s").format(record).isprintable()


def test_words_of_any_language_are_not_escaped():
    assert printable("épanchement 心 ≥ 2 cm – right") == "épanchement 心 ≥ 2 cm – right"


def test_a_name_cannot_forge_a_line(files):
    name = files("a\nERROR: fake\x1b[2J.jsonl", SENTENCE, {"id": 1})
    stderr = run("align", name, "--anatomy", files("i.jsonl", IMAGE), "--rejects", "bad", code=0)
    assert "\x1b" not in stderr and not any(line.startswith("ERROR: fake") for line in stderr.splitlines())
    assert "rejected a\\nERROR: fake\\x1b[2J.jsonl:2: " in stderr


@pytest.mark.parametrize("args", [["align", "a\x1bb\nc"], ["convert", "a\x1bb"], ["a\x1bb"]], ids=str)
def test_words_of_the_command_line_are_escaped(files, args):
    stderr = run(*args, code=2)
    assert "\x1b" not in stderr and "Error" in stderr


@pytest.mark.parametrize("name", ["stdin", "stdout"])
def test_a_closed_stream_is_one_message(name, monkeypatch):
    monkeypatch.setattr(os, "open", lambda *args: 0)
    monkeypatch.setattr(sys, name, None)
    program.open_standard_streams()
    with pytest.raises(MedgroundError, match=f"<{name}> is closed"):
        (sys.stdin.buffer.read if name == "stdin" else lambda: sys.stdout.buffer.write(b"a"))()


def test_a_closed_stderr_is_silent(monkeypatch):
    monkeypatch.setattr(os, "open", lambda *args: 2)
    monkeypatch.setattr(sys, "stderr", None)
    program.open_standard_streams()
    print("a", file=sys.stderr)


@pytest.mark.parametrize(
    "text, problem",
    [
        ("workers = [1, 2]", "expected a text, a number, true or false"),
        ("workers = 1979-05-27", "expected a text, a number"),
        ("workers = 1.5", "expected a whole number"),
        ("workers = true", "expected a whole number"),
        ("workers = inf", "expected a whole number"),
        ("workers = " + "9" * 5000, "k.toml"),
        ("workers = " + "[" * 5000, "nested too deeply"),
    ],
    ids=lambda each: each[:20],
)
def test_values_of_a_config_are_checked(files, text, problem):
    stderr = run("parse-reports", files("r.jsonl", REPORT), "--config", files("k.toml", text), code=2)
    assert problem in stderr


def whole_numbers():
    for path in COMMANDS:
        for each in command_of(path).params:
            if getattr(each.type, "name", "") in ("integer", "integer range") and not getattr(
                each, "count", 0
            ):
                yield f"{IDS[COMMANDS.index(path)]} {each.name}", each


def test_every_whole_number_has_a_largest_one():
    for name, param in whole_numbers():
        try:
            param.type.convert(str(1 << 70), param, None)
        except click.BadParameter:
            continue
        pytest.fail(f"{name} has no largest value")


def test_the_largest_seed_can_be_written():
    assert options.SEED.convert(str((1 << 63) - 1), None, None) == (1 << 63) - 1


@pytest.mark.parametrize("depth, good", [(199, True), (201, False), (1000, False), (100_000, False)])
@pytest.mark.parametrize("parse", [strict_json.parse, strict_json.parse_loose])
@pytest.mark.parametrize("pair", ["[]", ("{" + '"a":', "}")], ids=["lists", "objects"])
def test_depth_is_limited(parse, depth, good, pair):
    text = (pair[0] * depth + "1" + pair[1] * depth).encode()
    if good:
        assert parse(text) is not None
    else:
        with pytest.raises(BadRecord):
            parse(text)


def test_brackets_in_texts_are_no_depth():
    value = ["[{" * 500, '\\"[' * 500, {"]": "}"}] * 10
    assert strict_json.parse(json.dumps(value).encode()) == value


def test_many_brackets_are_no_depth():
    assert len(strict_json.parse(json.dumps([[[]]] * 50_000).encode())) == 50_000


def test_a_deep_value_is_an_invalid_line(files):
    deep = json.dumps(SENTENCE)[:-1] + ', "site": ' + "[" * 300 + "]" * 300 + "}"
    stderr = run(
        "align",
        files("s.jsonl", SENTENCE, deep),
        "--anatomy",
        files("i.jsonl", IMAGE),
        "--rejects",
        "b",
        code=0,
    )
    assert "s.jsonl:2: nested more than 200 levels deep" in stderr


@pytest.mark.parametrize(
    "results",
    [
        [{"bbox": [1, 1, 2, 2], "phrase_id": ["p1"]}],
        [{"bbox": [1, 1, 2, 2], "phrase_id": {"a": 1}}],
        [{"bbox": [1, 1, 2, 2], "image_id": None}],
        [{"bbox": [1, 1, 2, 2], "image_id": 1.5}],
        [{"bbox": [1, 1, 2, 10**400], "phrase_id": "p1"}],
        [{"bbox": "1234", "phrase_id": "\ud800"}],
        {
            "images": [{"id": 1, "image_id": "i1"}],
            "annotations": [],
            "phrases": [{"image_id": 1, "phrase_id": [2]}],
        },
        {"images": [{"id": 1, "image_id": ["i1"]}], "annotations": [{"image_id": 1, "bbox": [1, 1, 2, 2]}]},
        {"images": 5, "annotations": []},
        {"images": [{"id": [1]}], "annotations": []},
        {"images": [{"id": 1, "image_id": "i1"}], "annotations": [{"image_id": [1]}]},
        {"images": [{"id": 1, "image_id": "i1"}], "annotations": [5]},
        {"images": [], "annotations": 5},
        {"images": [], "annotations": [], "phrases": 5},
    ],
    ids=lambda each: json.dumps(each)[:60],
)
def test_coco_results_of_other_types(files, results):
    assert "Error: coco.json: " in evaluate(files("coco.json", results), "--input-format", "coco")


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[" * 300 + "]" * 300, "1" * 5000, "[" + "9" * 5000 + "]", ""]
)
def test_coco_results_that_are_no_json(files, text):
    assert "Error: coco.json: " in evaluate(files("coco.json", text), "--input-format", "coco")


@pytest.mark.parametrize("digits", ["9" * 7, "1" * 400, "1" * 5000])
def test_a_bin_of_many_digits_is_an_invalid_line(files, digits):
    output = f"<box><x{digits}><y1><x20><y30></box>"
    stderr = evaluate(files("m.jsonl", {"phrase_id": "p1", "output": output}), "--input-format", "maira-2")
    assert "m.jsonl:1: output: expected bins from 0 to 99" in stderr


@pytest.mark.parametrize(
    "text, problem",
    [
        ("phrase_id,x1,x1,y1,x2,y2\np1,1,5,1,9,9\n", "csv: two columns have the same name"),
        ("phrase_id,x1,y1,x2,y2\np1,1,2,3,4,5\n", "csv:2: expected as many cells as in the header"),
        ("phrase_id,x1,y1,x2,y2,score\np1,1,2,3,4\n", "csv:2: expected as many cells as in the header"),
        ("phrase_id,x1,y1,x2,y2\np1,1_0,1,2_0,2\n", "csv:2: x1: expected a number"),
    ],
)
def test_a_table_of_predictions_is_not_guessed_at(files, text, problem):
    assert problem in evaluate(files("p.csv", text), "--input-format", "csv")


@pytest.mark.parametrize("digits", ["9" * 6, "9" * 400, "9" * 5000, "\u0661"])
@pytest.mark.parametrize("frame", ["letterbox:{}", "stretch:{}x1", "stretch:1x{}"])
def test_a_side_of_many_digits_is_refused(files, frame, digits):
    stderr = evaluate(files("g.jsonl", GROUNDING), "--coordinates", frame.format(digits))
    assert "not a frame" in stderr


N = 200_000
LOOPS = [
    "[" + "1" * N,
    "[0." + "1" * N,
    "[" * N,
    "[0.1, " * N,
    "[" + " " * N,
    "[0.1" + " " * N + "x",
    "[1" + "e" * N,
    "[0.1,0.2,0.3," + "1" * N,
    "[" + "1" * N + "," + "1" * N + "," + "1" * N + "," + "1" * N,
    "[" + ("1" * 80 + ",") * (N // 80),
    "<box>" * N,
    "<box>" + " " * N,
    "<box><x" + "1" * N,
    "<box><x1>" * N,
    "(" * N + "0.1" * N,
    "-" * N,
    "[" + ".1" * N,
]


@pytest.mark.slow
@pytest.mark.parametrize(
    "parse",
    [
        *(texts.qwen, texts.gemini, texts.paligemma, texts.florence_2, texts.deepseek_vl2),
        *(texts.chexagent_2, texts.maira_2, texts.shares),
    ],
)
def test_a_looping_answer_is_read_in_linear_time(parse):
    for text in LOOPS:
        start = time.process_time()
        assert not parse(text).boxes, text[:12]
        assert time.process_time() - start < 2, text[:12]  # quadratic time: minutes


def test_markup_in_a_category_is_shown(files):
    stream = io.StringIO()
    table.print_rows("scores", ["group", "n"], [["category:[/b]\x1b[31m\n[red]", "1"]], stream)
    assert "category:[/b]\\x1b[31m\\n[red]" in stream.getvalue()
    stderr = evaluate(files("g.jsonl", GROUNDING), "--table", "-o", "out", code=0)
    assert "\x1b" not in stderr


@pytest.mark.skipif(find_spec("highdicom") is None, reason="highdicom is not installed")
class TestStructuredReport:
    TAGS = {"StudyInstanceUID": "1.2.4", "SeriesInstanceUID": "1.2.5"}  # noqa: RUF012

    @pytest.fixture
    def write(self, tmp_path, caplog):
        return partial(self.written, tmp_path, caplog)

    def written(self, folder, caplog, text="effusion", **tags):
        from dicom_files import dicom
        from pydicom import dcmread

        from medground.grounding import structured_report

        dicom(folder / "x.dcm", np.zeros((10, 10), np.uint8), **self.TAGS | tags)
        caplog.clear()  # pydicom's warnings about what it wrote for us
        phrase = Phrase(image_id="x", phrase_id="1", path="x.dcm", text=text)
        found = Grounding(image_id="x", phrase_id="1", text=text, boxes=[], present=0.5, model="m")
        structured_report.write([(phrase, found)], folder, folder / "out")
        return dcmread(folder / "out" / "x.dcm")

    @pytest.mark.slow
    @pytest.mark.filterwarnings("error")
    def test_words_of_any_language_survive(self, write):
        text = "épanchement 心 ≥ 2 cm – right"
        names = {"SpecificCharacterSet": "ISO_IR 144", "PatientName": "Люкceмбypг"}
        report = write(text, **names)
        assert text in [each.value for each in report.iterall() if each.keyword == "TextValue"]
        assert report.PatientName == names["PatientName"]

    @pytest.mark.filterwarnings("ignore")  # of pydicom, when the test writes such a file
    @pytest.mark.parametrize("name", ["StudyDate", "StudyTime", "PatientBirthDate"])
    def test_a_malformed_date_is_left_out_and_not_quoted(self, write, name, caplog):
        report = write(**{name: "ZQXSECRET"})
        assert not report.get(name) and f"{name} is malformed" in caplog.text and "ZQX" not in caplog.text

    @pytest.mark.filterwarnings("ignore")
    @pytest.mark.parametrize("name", ["StudyInstanceUID", "SOPInstanceUID", "PatientID", "AccessionNumber"])
    def test_a_malformed_text_is_not_quoted(self, write, name, caplog):
        try:
            write(**{name: "ZQXSECRET"})
        except MedgroundError as error:
            assert "ZQX" not in str(error)
        assert "ZQX" not in caplog.text
