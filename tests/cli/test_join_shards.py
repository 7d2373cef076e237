import json

import pytest
from click.testing import CliRunner
from samples import IMAGE, SENTENCE

from medground.cli.main import cli

ANSWER = {"text": "words", "boxes": [], "present": 0.5, "model": "m"}


def lines(records):
    return "".join(json.dumps(each) + "\n" for each in records)


@pytest.fixture
def join(tmp_path, monkeypatch):
    """Run the command in a folder with a file for each list of records."""

    def join(*args, **files):
        for name, records in files.items():
            (tmp_path / f"{name.replace('_', '-')}.jsonl").write_text(lines(records))
        return CliRunner().invoke(cli, ["join-shards", *args, "-o", "out.jsonl"])

    monkeypatch.chdir(tmp_path)
    join.out = tmp_path / "out.jsonl"
    return join


def sentence(study, number=0):
    return SENTENCE | {"study_id": study, "sentence_id": f"{study}|{number}"}


ALL = [sentence(study, number) for study in ("c", "a", "d", "b") for number in (0, 1)]
PARTS = {
    "x_1_of_2": [each for each in ALL if each["study_id"] in "bd"],
    "x_2_of_2": [each for each in ALL if each["study_id"] in "ac"],
}
NAMES = ["x-1-of-2.jsonl", "x-2-of-2.jsonl"]


def test_shards_follow_one_another(join):
    result = join(*NAMES, **PARTS)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "8 lines of 4 studies from 2 shards\n"
    assert join.out.read_text() == lines(PARTS["x_1_of_2"] + PARTS["x_2_of_2"])


def test_with_the_input_they_come_in_its_order(join):
    silent = {"study_id": "none"}
    result = join(*NAMES, "--like", "all.jsonl", all=[*ALL[:3], silent, *ALL[3:]], **PARTS)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "8 lines of 4 studies from 2 shards, of 6 in the input\n"
    assert join.out.read_text() == lines(ALL)


def test_the_input_may_be_a_table_of_reports(join, tmp_path):
    (tmp_path / "reports.csv").write_text("study_id,text\nc,words\na,words\nempty,\nd,words\nb,words\n")
    assert join(*NAMES, "--like", "reports.csv", **PARTS).exit_code == 0
    assert join.out.read_text() == lines(ALL)


def test_the_study_column_of_a_table_can_be_named(join, tmp_path):
    (tmp_path / "reports.csv").write_text("nr,befund\nc,words\na,words\nd,\nb,words\n")
    assert "no column of report text" in join(*NAMES, "--like", "reports.csv", **PARTS).stderr
    result = join(*NAMES, "--like", "reports.csv", "--id-column", "nr", **PARTS)
    assert result.exit_code == 0, result.stderr
    assert join.out.read_text() == lines(ALL)


def test_reports_of_write_are_joined_in_the_order_of_their_images(join):
    """Two images of one study have a report each."""
    images = [{"image_id": name, "study_id": "s", "path": f"{name}.png"} for name in ("c", "a", "b")]
    reports = [{"study_id": "s", "text": "words", "model": "m"} | each for each in images]
    parts = {"x_1_of_2": [reports[0], reports[2]], "x_2_of_2": [reports[1]]}
    result = join(*NAMES, "--like", "images.jsonl", images=images, **parts)
    assert (result.exit_code, result.stdout) == (0, ""), result.stderr
    assert result.stderr == "3 lines of 3 images from 2 shards, of 3 in the input\n"
    assert join.out.read_text() == lines(reports)


BAD = {
    "a missing shard": (["x-1-of-2.jsonl"], {}, "shard 2 of 2 is missing"),
    "a shard twice": (["x-1-of-2.jsonl"] * 2, {}, "given twice"),
    "shards of two runs": ([*NAMES, "x-3-of-3.jsonl"], {"x_3_of_3": []}, "of 2 and of 3"),
    "a file that is not there": (["y.jsonl", "z.jsonl"], {}, "No such file"),
    "a study in two shards": (
        NAMES,
        {"x_1_of_2": [sentence("c", 5)]},
        "this study or image is also in x-1-of-2.jsonl",
    ),
    "no record": (NAMES, {"x_1_of_2": [{"a": 1}]}, "x-1-of-2.jsonl:1: expected a sentence"),
    "a line too many": (
        [*NAMES, "--like", "all.jsonl"],
        {"all": ALL[2:]},
        "this study or image is not in the input",
    ),
    "another order": ([*NAMES, "--like", "all.jsonl"], {"all": ALL[::-1]}, "another place"),
}


@pytest.mark.parametrize("args, files, said", BAD.values(), ids=BAD)
def test_what_does_not_go_together_is_refused_in_one_line(args, files, said, join):
    join.out.write_text("from an earlier run\n")
    result = join(*args, **(PARTS | files))
    assert (result.exit_code, result.stdout) == (1, "")
    assert said in result.stderr and result.stderr.count("\n") == 1
    assert join.out.read_text() == "from an earlier run\n"


def test_half_a_line_is_refused(join, tmp_path):
    (tmp_path / "half.jsonl").write_text(lines(ALL)[:-5])
    result = join("half.jsonl")
    assert (result.exit_code, "half.jsonl:8: incomplete line" in result.stderr) == (1, True)


@pytest.mark.parametrize(
    "records, name",
    [
        ([IMAGE | {"image_id": name} for name in "abc"], "image_id"),
        ([ANSWER | {"image_id": "i", "phrase_id": name} for name in "abc"], "phrase_id"),
    ],
    ids=["anatomy", "groundings"],
)
def test_an_image_or_a_phrase_without_its_line_is_missed(records, name, join):
    wanted = [{name: each} for each in "abc"]
    whole = join(
        "x.jsonl", "y.jsonl", "--like", "wanted.jsonl", x=records[1:2], y=records[::2], wanted=wanted
    )
    assert (whole.exit_code, join.out.read_text()) == (0, lines(records))
    parts = ["x.jsonl", "--like", "wanted.jsonl"]
    lost = join(*parts, x=records[::2], wanted=wanted)
    assert (lost.exit_code, "study or image 2 of the input has no line" in lost.stderr) == (1, True)
    allowed = join(*parts, "--missing-ok", x=records[::2], wanted=wanted)
    assert (allowed.exit_code, join.out.read_text()) == (0, lines(records[::2]))
