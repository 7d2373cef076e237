"""The table of `make downstream`, and the images of reports."""

import json

import pytest
from click.testing import CliRunner
from tool_runs import tool


def score(metric: str, value: float, group: str = "macro", **more: float) -> str:
    return json.dumps({"metric": metric, "group": group, "value": value, "low": None, "high": None} | more)


def test_a_row_has_each_score_that_exists(tmp_path):
    lines = [
        score("auroc", 0.4, "class:Mass"),
        score("auroc", 0.75, low=0.7, high=0.8),
        score("auroc@1%", 0.5),
    ]
    (tmp_path / "nih-asg.jsonl").write_text("\n".join(lines))
    (tmp_path / "answers-asg.jsonl").write_text(score("accuracy", 0.25, "all"))
    module = tool("downstream_table")
    words = ["table", str(tmp_path), "--row", "asg", "--row", "agp"]
    result = CliRunner().invoke(module.main, words)
    assert result.exit_code == 0, result.output
    head, _, first, second = result.output.splitlines()
    cells = dict(zip(head.split("|")[1:], first.split("|")[1:], strict=True))
    shown = {heading.strip(): each.strip() for heading, each in cells.items()}
    assert shown.pop("") in ("asg", "")
    assert shown["AUROC 1 %"] == "0.500" and shown["AUROC 10 %"] == "–"
    assert shown["AUROC 100 %"] == "0.750 (0.700 to 0.800)" and shown["accuracy"] == "0.250"
    assert set(second.replace("|", " ").split()) == {"agp", "–"}


@pytest.mark.parametrize("where", ["outer", "extra"])
def test_images_are_the_first_of_each_report(tmp_path, where):
    report = {"study_id": "s1", "text": "Clear."}
    paths = {"image_paths": ["a/0.png", "a/1.png"]}
    (tmp_path / "r.jsonl").write_text(json.dumps(report | (paths if where == "outer" else {"extra": paths})))
    result = CliRunner().invoke(tool("downstream_table").main, ["images", str(tmp_path / "r.jsonl")])
    assert json.loads(result.output) == {"image_id": "s1", "study_id": "s1", "path": "a/0.png"}


def test_a_part_has_the_records_of_its_split(tmp_path):
    lines = [json.dumps({"phrase_id": n, "split": n}) for n in ("train", "test", "test")]
    (tmp_path / "all.jsonl").write_text("\n".join(lines))
    result = CliRunner().invoke(tool("downstream_table").main, ["part", str(tmp_path / "all.jsonl"), "test"])
    assert result.output.splitlines() == lines[1:]
