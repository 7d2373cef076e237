import itertools
import json
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from samples import IMAGE, REPORT, SENTENCE

from medground import shards
from medground.cli.main import cli
from medground.errors import MedgroundError
from medground.shards import Shard

IDS = st.none() | st.sampled_from(["", "p1", "p2", "p10000032", "10000032", "ä", "\udc80"])
RECORDS = st.builds(SimpleNamespace, subject_id=IDS, study_id=IDS, image_id=st.text(min_size=1, max_size=3))


@pytest.mark.slow
@given(st.lists(RECORDS), st.integers(1, 9))
def test_shards_are_disjoint_and_together_everything(records, count):
    parts = [list(Shard(n, count).keep(records)) for n in range(1, count + 1)]
    assert sorted(id(each) for part in parts for each in part) == sorted(map(id, records))
    for part in parts:
        assert part == [each for each in records if any(each is other for other in part)], "order is kept"


@pytest.mark.slow
@given(st.lists(RECORDS), st.integers(1, 9))
def test_a_patient_is_in_one_shard(records, count):
    homes = {}
    for number in range(1, count + 1):
        for each in Shard(number, count).keep(records):
            assert homes.setdefault(shards.patient_of(each), number) == number


def test_the_deal_is_the_same_for_ever():
    assert [shards.number_of(f"p{n}", 7) for n in range(10000000, 10000008)] == [6, 1, 5, 5, 0, 0, 0, 5]


def test_shards_are_about_as_large():
    sizes = [0] * 16
    for number in range(65_000):
        sizes[shards.number_of(f"p{10_000_000 + number}", 16)] += 1
    assert max(sizes) < 1.1 * min(sizes)


def test_both_ways_to_write_a_patient_are_one():
    assert shards.number_of("p10000032", 1000) == shards.number_of("10000032", 1000)


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/0", "-1/2", "", "1/3/4"])
def test_what_is_no_share_is_refused(text):
    with pytest.raises(ValueError, match="1/N to N/N"):
        shards.parse(text, {})


def array(task, first, last, step=1, **more):
    named = {"ID": task, "MIN": first, "MAX": last, "STEP": step, "COUNT": (last - first) // step + 1}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in (named | more).items()}


@pytest.mark.parametrize(
    "environment, shard",
    [
        (array(0, 0, 6), "1/7"),
        (array(7, 1, 7), "7/7"),
        (array(14, 10, 16, 2), "3/4"),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "2"}, "1/2"),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, "2/2"),
        (array(3, 1, 4) | {"SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, "3/4"),
    ],
)
def test_slurm_says_which_share_is_ours(environment, shard):
    assert str(shards.parse("slurm", environment)) == shard


def test_without_slurm_the_message_says_what_is_missing():
    with pytest.raises(ValueError, match="needs a job array, or srun"):
        shards.parse("slurm", {})


def test_some_tasks_of_an_array_again_are_not_taken_for_a_whole_array():
    with pytest.raises(ValueError, match="--shard I/N"):
        shards.parse("slurm", array(5, 2, 9, COUNT=3))


def streams(sentences, images):
    return [[SimpleNamespace(**each) for each in lines] for lines in (sentences, images)]


@pytest.mark.parametrize("subjects", [("p1", "p1"), ("p1", None), (None, "p1"), (None, None)])
def test_two_streams_meet_whether_or_not_they_name_the_patient(subjects):
    here, there = subjects
    numbers = range(40)
    stated, seen = streams(
        [{"study_id": f"s{n}", "subject_id": here and f"p{n // 2}"} for n in numbers],
        [{"study_id": f"s{n}", "subject_id": there and f"p{n // 2}"} for n in reversed(numbers)],
    )
    for number in (1, 2, 3):
        mine, images = Shard(number, 3).keep_both(stated, seen)
        assert {each.study_id for each in mine} == {each.study_id for each in images} != set()


def test_a_line_without_the_patient_that_others_name_is_refused():
    stated, seen = streams(
        [
            {"study_id": "s1", "subject_id": "p1"},
            {"study_id": "s2", "subject_id": None, "sentence_id": "s2|0"},
        ],
        [{"study_id": "s1", "subject_id": "p1"}],
    )
    with pytest.raises(MedgroundError, match="a sentence: no subject_id"):
        list(Shard(1, 2).keep_both(stated, seen)[0])


def lines(records):
    return "".join(json.dumps(each) + "\n" for each in records)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command in a folder with the reports, sentences and images of 30 studies of 15 patients."""
    monkeypatch.chdir(tmp_path)
    own = [{"study_id": f"s{n}", "subject_id": f"p{n % 15}"} for n in range(30)]
    (tmp_path / "reports.jsonl").write_text(lines(REPORT | each for each in own))
    (tmp_path / "boxes.jsonl").write_text(
        lines(IMAGE | {"image_id": f"i{n}"} | each for n, each in enumerate(own))
    )
    sentences = (SENTENCE | each | {"sentence_id": f"{each['study_id']}|{n}"} for each in own for n in (0, 1))
    (tmp_path / "sentences.jsonl").write_text(lines(sentences))

    def run(*args):
        return CliRunner().invoke(cli, list(args))

    return run


CALLS = {
    "parse-reports": ["parse-reports", "reports.jsonl"],
    "align": ["align", "sentences.jsonl", "--anatomy", "boxes.jsonl"],
}


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("count", [1, 2, 7])
def test_the_shards_of_a_command_are_together_its_output(call, count, run):
    whole = run(*call).stdout.splitlines()
    parts = [run(*call, "--shard", f"{n}/{count}") for n in range(1, count + 1)]
    assert {each.exit_code for each in parts} == {0}
    assert len(whole) >= 30
    assert sorted(itertools.chain(*(each.stdout.splitlines() for each in parts))) == sorted(whole)


def test_the_command_understands_slurm(run, monkeypatch):
    for name, value in array(2, 1, 3).items():
        monkeypatch.setenv(name, value)
    assert run(*CALLS["align"], "--shard", "slurm").stdout == run(*CALLS["align"], "--shard", "2/3").stdout


def test_a_share_that_is_none_is_a_usage_error(run):
    result = run(*CALLS["align"], "--shard", "0/3")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "1/N to N/N" in " ".join(result.stderr.split())
