import json

import pytest
from click.testing import CliRunner

from medground.cli.main import cli

BOX = [0, 0, 10, 10]


@pytest.fixture
def files(tmp_path):
    """Return the folder of a truth, and of predictions of three models for it."""
    phrases = [{"image_id": f"i{n}", "phrase_id": "p", "text": "opacity", "path": "x.png"} for n in range(6)]
    sized = [
        each | {"width": 20, "height": 20, "boxes": [BOX], "subject_id": each["image_id"]} for each in phrases
    ]
    write(tmp_path / "truth.jsonl", sized)
    for name, height in (("a", 9), ("b", 6), ("c", 3)):
        boxes = [{"box": [0, 0, 10, height], "score": 0.5}]
        keys = ("image_id", "phrase_id", "text")
        found = [
            {key: each[key] for key in keys} | {"boxes": boxes, "present": 1, "model": name}
            for each in phrases
        ]
        write(tmp_path / f"{name}.jsonl", found)
    return tmp_path


def write(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def run(folder, *args):
    named = [str(folder / each) if str(each).endswith(".jsonl") else str(each) for each in args]
    return CliRunner().invoke(
        cli, ["compare", *named, "--truth", str(folder / "truth.jsonl"), "--bootstrap-samples", "100"]
    )


def test_scores_carry_the_names_of_the_files_and_the_differences_to_the_first(files):
    result = run(files, "a.jsonl", "b.jsonl", "c.jsonl")
    assert result.exit_code == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    found = {(each["name"], each["metric"]): each for each in lines if each["group"] == "all"}
    assert found["a", "miou"]["value"] == pytest.approx(0.9)
    assert found["c", "difference_miou"]["value"] == pytest.approx(-0.6)
    assert found["c", "difference_miou"]["reference"] == "a"


def test_every_output_is_the_same_bytes_for_the_same_input(files):
    for format in ("jsonl", "markdown", "latex", "html"):
        first, second = (run(files, "a.jsonl", "b.jsonl", "--output-format", format) for _ in range(2))
        assert first.exit_code == 0 and first.stdout and first.stdout == second.stdout


def test_names_and_groups_can_be_chosen(files):
    result = run(
        files,
        "a.jsonl",
        "b.jsonl",
        "--name",
        "AGP",
        "--name",
        "MedRPG",
        "--output-format",
        "markdown",
        "--group",
        "all",
    )
    assert "| AGP |" in result.stdout and "| MedRPG |" in result.stdout and "macro" not in result.stdout


def test_a_format_can_be_given_for_each_file(files):
    shares = [
        {
            "image_id": f"i{n}",
            "phrase_id": "p",
            "text": "opacity",
            "boxes": [{"box": [0, 0, 0.5, 0.5], "score": 1}],
            "present": 1,
            "model": "s",
        }
        for n in range(6)
    ]
    write(files / "s.jsonl", shares)
    result = run(files, "a.jsonl", "s.jsonl", "--coordinates", "original", "--coordinates", "normalised")
    assert result.exit_code == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [
        each["value"]
        for each in lines
        if (each["name"], each["metric"], each["group"]) == ("s", "miou", "all")
    ] == [1.0]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["a.jsonl"], "at least two FILEs"),
        (["a.jsonl", "a.jsonl"], "two models have the name a"),
        (["a.jsonl", "b.jsonl", "--name", "x"], "expected 2 names"),
        (["a.jsonl", "b.jsonl", "--reference", "z"], "the models are a, b"),
        (
            ["a.jsonl", "b.jsonl", "c.jsonl", "--coordinates", "original", "--coordinates", "crop"],
            "one for all or 3",
        ),
        (["a.jsonl", "b.jsonl", "--protocol", "heatmap"], "heatmap"),
        (
            ["a.jsonl", "b.jsonl", "--output-format", "latex", "--group", "side"],
            "no score has the group 'side'; known are all, ",
        ),
    ],
)
def test_a_wrong_call_is_a_usage_error(files, args, message):
    result = run(files, *args)
    assert result.exit_code == 2 and message in result.stderr


def test_a_bad_line_names_its_file(files):
    (files / "b.jsonl").write_text("{}\n")
    result = run(files, "a.jsonl", "b.jsonl")
    assert result.exit_code == 1 and "b.jsonl:1" in result.stderr
