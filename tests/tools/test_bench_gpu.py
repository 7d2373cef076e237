import json
import os
import subprocess
import sys

import pytest
from paths import ROOT
from tool_runs import run, tool

SMALL = {"size": "small", "device": "cpu", "images": 1, "steps": 2, "patients": 4, "rounds": 1}
MINIATURE = [part for name, value in SMALL.items() for part in (f"--{name}", str(value))]
# not on the machines that lend a GPU
ABSENT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("spacy", "negspacy", "ultralytics", "pydicom", "openvino", "cv2"):
            raise ImportError(f"no {name} here")
sys.meta_path.insert(0, Absent())
"""


@pytest.mark.slow
def test_each_part_of_the_gpu_benchmark_runs_in_miniature_without_optional_packages(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(ABSENT)
    call = [sys.executable, ROOT / "tools/bench_gpu", "-o", tmp_path / "out", *MINIATURE]
    call += ["--only", "peak", "steps", "train"]
    paths = os.pathsep.join(filter(None, [str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(call, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": paths})
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "out/results.jsonl").read_text().splitlines()]
    assert not [row for row in rows if "failed" in row]
    phrases = [row["phrases"] for row in rows if row["part"] == "steps"]
    assert phrases == [1, 6, 29]
    assert all(0 < row["share of peak"] < 1 for row in rows if row["part"] == "steps")
    last = rows[-1]
    assert (last["part"], last["steps"]) == ("train", 2) and last["images/s"] > 0
    curve = [json.loads(line) for line in (tmp_path / "out/curve.jsonl").read_text().splitlines()]
    assert [line["step"] for line in curve] == [1, 2]


@pytest.mark.slow
def test_a_part_that_fails_is_a_row_and_the_next_one_follows(tmp_path, monkeypatch, capsys):
    module = tool("bench_gpu")

    def peak(given):
        yield {"TFLOP/s": 1.0}
        raise RuntimeError("CUDA out of memory\nhelp")

    monkeypatch.setattr(module, "peak", peak)
    flags = ["-o", tmp_path, *MINIATURE, "--only", "peak", "train"]
    flags[flags.index("--patients") + 1] = "0"
    run(monkeypatch, capsys, module, *flags)
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [row["part"] for row in rows] == ["peak", "peak", "train"]
    assert rows[1]["failed"] == "CUDA out of memory"
    assert rows[2]["failed"].startswith("phantom: ")
