"""`medground convert` for data sets of findings with boxes, as a user runs it."""

import json

import pytest
from click.testing import CliRunner

from medground.cli.main import cli

VINDR = "image_id,rad_id,class_name,x_min,y_min,x_max,y_max\n"
VINDR += "a,R1,Pleural effusion,10,10,60,60\nb,R1,No finding,,,,\n"


def run(*args, given=None):
    return CliRunner().invoke(cli, ["convert", *map(str, args)], input=given)


def lines(result):
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_sizes_come_from_lines_with_an_image_id(tmp_path):
    sizes = tmp_path / "sizes.jsonl"
    sizes.write_text('{"image_id":"a","path":"a.png","width":100,"height":80}\n')
    found = lines(run("vindr-cxr", "--sides", "--absent", "--image-sizes", sizes, given=VINDR))
    assert [(each["text"], each["boxes"]) for each in found] == [
        ("right pleural effusion", [[10, 10, 60, 60]]),
        ("pleural effusion", []),
    ]
    assert (found[0]["width"], found[0]["height"], "width" in found[1]) == (100, 80, False)


@pytest.mark.parametrize(
    "line", ['{"image_id":"a","path":"a.png"}', '{"image_id":"a","path":"a","width":0,"height":8}']
)
def test_a_line_without_a_size_is_named(tmp_path, line):
    (tmp_path / "sizes.jsonl").write_text(line + "\n")
    result = run("vindr-cxr", "--image-sizes", tmp_path / "sizes.jsonl", given=VINDR)
    assert result.exit_code == 1
    assert "sizes.jsonl:1: width: expected a number of pixels above 0" in result.stderr


def test_a_table_of_phrases_can_be_given(tmp_path):
    (tmp_path / "own.toml").write_text('"Pleural effusion" = "fluid in the chest"\n')
    [found] = lines(run("vindr-cxr", "--templates", tmp_path / "own.toml", given=VINDR))
    assert found["text"] == "fluid in the chest"


def test_converted_phrases_are_phrases_to_evaluate(tmp_path):
    (tmp_path / "truth.jsonl").write_text(run("vindr-cxr", given=VINDR).stdout)
    found = {"image_id": "a", "phrase_id": "a|Pleural effusion", "text": "x", "present": 1, "model": "m"}
    found["boxes"] = [{"box": [10, 10, 60, 60], "score": 1}]
    (tmp_path / "found.jsonl").write_text(json.dumps(found) + "\n")
    args = [
        "evaluate",
        tmp_path / "found.jsonl",
        "--truth",
        tmp_path / "truth.jsonl",
        "--bootstrap-samples",
        "100",
    ]
    result = CliRunner().invoke(cli, [*map(str, args)])
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[0])["value"] == 1.0
