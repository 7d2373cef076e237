"""What pretrain asks of an image: names of regions, other words for them, and sentences."""

import json
from pathlib import Path

import pytest
import toy
from click.testing import CliRunner

from medground.anatomy import regions
from medground.cli.main import cli
from medground.data import paraphrasing
from medground.data.examples import Example
from medground.training import train


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> toy.Toy:
    return toy.make(tmp_path_factory.mktemp("toy"), count=4)


@pytest.fixture
def trained(cohort, tmp_path, monkeypatch):
    """Run pretrain without a step of training; the exit code, stderr, and what would have been learned."""

    def run(*flags: object, anatomy: bool = True) -> tuple[int, str, list[Example], train.Options]:
        seen: list = [[], None]

        def note(material: train.Material, images: Path, folder: Path, options: train.Options, *more) -> bool:
            seen[:] = [list(material.examples), options]
            return True

        monkeypatch.setattr(train, "fit", note)
        more = ["--anatomy", cohort.anatomy] if anatomy else []
        words = ["pretrain", *flags, cohort.pairs, *more, "--images", cohort.folder, "-o", tmp_path / "run"]
        result = CliRunner().invoke(cli, [str(each) for each in words])
        return result.exit_code, result.stderr, *seen

    return run


@pytest.mark.parametrize("anatomy", [True, False])
def test_regions_are_queried_by_synonyms_unless_synonyms_are_off(trained, anatomy):
    for flags in ([], ["--synonyms"]):
        _, _, learned, _ = trained(*flags, anatomy=anatomy)
        assert {q.texts for each in learned for q in each.terms} == {
            (name, *regions.SYNONYMS[name]) for name in ("left lung", "right lung")
        }
    _, _, learned, _ = trained("--no-synonyms", anatomy=anatomy)
    assert {q.texts for each in learned for q in each.terms} == {("left lung",), ("right lung",)}


def test_queries_may_be_names_or_sentences_only(trained):
    code, _, learned, options = trained("--max-sentences", 0)
    assert (code, options.max_sentences) == (0, 0) and all(each.sentences for each in learned)
    assert trained("--max-terms", 0)[0] == 0


def test_agp_that_asks_nothing_is_refused(trained):
    code, message, learned, _ = trained("--max-terms", 0, "--max-sentences", 0)
    assert (code, learned) == (2, [])
    assert "leaves agp nothing to train on" in message
    assert trained("--max-terms", 0, "--max-sentences", 0, "--objective", "asg")[0] == 0
    assert trained("--max-terms", -1)[0] == 2


@pytest.mark.slow
def test_the_run_states_its_query_texts(cohort, tmp_path):
    words = ["pretrain", cohort.pairs, "--images", cohort.folder, "-o", tmp_path / "run", "--steps", 1]
    words += ["--batch-size", 2, "--no-synonyms", "--paraphrases", 3, "--device", "cpu"]
    result = CliRunner().invoke(cli, [str(each) for each in words])
    assert result.exit_code == 0, result.output
    config = (tmp_path / "run" / "config.toml").read_text()
    assert "synonyms = false" in config and "paraphrases = 3" in config


def test_sentences_of_patients_who_are_left_out_are_not_reworded(cohort, trained, monkeypatch):
    reworded: list = []
    monkeypatch.setattr(paraphrasing, "reword", lambda learned, *_: reworded.extend(learned))
    _, _, everybody, _ = trained()
    lines = [json.loads(line) for line in Path(cohort.phrases).read_text().splitlines()]
    held = cohort.folder / "held.jsonl"
    held.write_text(json.dumps(lines[0] | {"split": "test"}) + "\n")
    _, _, learned, _ = trained("--paraphrases", 2, "--exclude-held-out", held)
    assert reworded == learned and len(learned) == len(everybody) - 1


def test_two_inputs_cannot_both_be_stdin(cohort):
    words = ["pretrain", "-", "--anatomy", "-", "--images", cohort.folder, "-o", cohort.folder / "run"]
    result = CliRunner().invoke(cli, [str(each) for each in words], input="")
    assert (result.exit_code, "only one input can be stdin" in result.stderr) == (2, True)


def test_a_list_that_leaves_nobody_out_is_warned_of(cohort, trained):
    train = [line for line in Path(cohort.phrases).read_text().splitlines(True) if '"train"' in line]
    (cohort.folder / "train.jsonl").write_text("".join(train))
    code, said, _, _ = trained("--exclude-held-out", cohort.folder / "train.jsonl")
    assert code == 0 and "--exclude-held-out: no phrase has the split val or test" in said
    assert "--exclude-held-out" not in trained("--exclude-held-out", cohort.phrases)[1]


def test_a_phrase_of_several_boxes_is_validated_on_each_of_them(cohort, tmp_path, monkeypatch):
    checked: list = []
    monkeypatch.setattr(train, "fit", lambda material, *_: checked.extend(material.validation) or True)
    line = json.loads(Path(cohort.phrases).read_text().splitlines()[0])
    line["boxes"] = [[0, 0, 10, 10], [50, 50, 60, 60]]
    (tmp_path / "val.jsonl").write_text(json.dumps(line) + "\n")
    words = ["pretrain", cohort.pairs, "--images", cohort.folder, "-o", tmp_path / "run"]
    words += ["--val", tmp_path / "val.jsonl", "--architecture", "mdetr"]
    assert CliRunner().invoke(cli, [str(each) for each in words]).exit_code == 0
    assert [len(query.boxes) for each in checked for query in each.sentences] == [2]
