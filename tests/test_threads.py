"""The number of threads of a prediction, and how they wait."""

import os
import subprocess
import sys

import pytest

from medground import devices, threads


@pytest.mark.parametrize(
    ("side", "cores", "expected"), [(64, 8, 1), (160, 8, 1), (384, 2, 2), (384, 64, 5), (640, 64, 16)]
)
def test_a_network_gets_no_more_threads_than_it_can_use(monkeypatch, side, cores, expected):
    monkeypatch.setenv("OMP_NUM_THREADS", str(cores))
    assert threads.for_square(side) == expected


@pytest.mark.parametrize("given", ["", "0", "many", "3,2"])
def test_a_number_that_is_none_means_the_cores_that_may_be_used(monkeypatch, given):
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert threads.usable() == (3 if given == "3,2" else len(os.sched_getaffinity(0)))


WAITS = """
import os, sys
from medground import devices
devices.resolve("cpu")
print(os.environ.get("OMP_WAIT_POLICY"), "torch" in sys.modules)
"""


@pytest.mark.parametrize(("own", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_of_torch_sleep_while_they_wait_unless_the_user_says_otherwise(own, expected):
    given = {name: each for name, each in os.environ.items() if name != "OMP_WAIT_POLICY"}
    given |= {"OMP_WAIT_POLICY": own} if own else {}
    result = subprocess.run([sys.executable, "-c", WAITS], capture_output=True, text=True, env=given)
    assert result.stdout.split() == [expected, "False"], result.stderr


def test_a_gpu_is_looked_for_only_where_a_driver_is_loaded(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(devices, "_is_cpu_build", lambda: False)
    (tmp_path / "nvme0").touch()
    (tmp_path / "nvram").touch()
    assert not devices._may_have_gpu(tmp_path)
    (tmp_path / "nvidiactl").touch()
    assert devices._may_have_gpu(tmp_path)
    monkeypatch.setattr(devices, "_is_cpu_build", lambda: True)
    assert not devices._may_have_gpu(tmp_path)
