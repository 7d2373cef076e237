"""Real kills at random moments; `tools/kill_filters` deals more of them, over all filters and trainers."""

import re
import subprocess
import sys

import pytest
from paths import ROOT


@pytest.mark.slow
def test_killed_at_random_moments_filters_end_with_the_bytes_of_an_undisturbed_run(tmp_path):
    call = [sys.executable, str(ROOT / "tools/kill_filters"), "--kills", "4", "--seed", "1"]
    call += ["--folder", str(tmp_path), "--only", "parse-reports", "align"]
    result = subprocess.run(call, capture_output=True, text=True, timeout=280)
    assert (result.returncode, result.stderr) == (0, "")
    matches = [re.fullmatch(r"(\S+) +2 kills at \[(\d+), (\d+)\] of (\d+) .*: the same bytes", line)
            for line in result.stdout.splitlines()]  # fmt: skip
    assert [each and each[1] for each in matches] == ["parse-reports", "align"], result.stdout
