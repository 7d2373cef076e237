"""Scripts run by two processes that share their batches."""

import os
import socket
import subprocess
from collections.abc import Iterable

import warm

END = """
import os, sys, torch
torch.distributed.destroy_process_group()
sys.stdout.flush()
os._exit(0)
"""
"""Ends a script as `medground` ends a training of several processes (`cli.training`).

On Python's usual way out torch's network threads sometimes abort the process (SIGABRT).
"""


def torchrun(*args: object) -> subprocess.CompletedProcess[str]:
    """Run a script, or `-m` and a module, in two processes of this interpreter; none outlives the call."""
    program = ["--no-python", *warm.python(), *args]
    call = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", _free_port(), *program]
    with _started(call, {}) as process:
        try:
            out, err = process.communicate(timeout=240)
        finally:
            process.terminate()  # after a timeout, it ends both processes
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def pair(*args: object) -> subprocess.CompletedProcess[str]:
    """Run as `torchrun` does, without its own process, which watches the others.

    The result has the output of the first process.
    """
    place = {"MASTER_ADDR": "localhost", "MASTER_PORT": _free_port(), "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    with (
        _started(args, place | {"RANK": 0, "LOCAL_RANK": 0}) as first,
        _started(args, place | {"RANK": 1, "LOCAL_RANK": 1}) as second,
    ):
        try:
            out, err = first.communicate(timeout=240)
            other = second.communicate(timeout=30)[1]
        finally:
            first.kill()
            second.kill()
    return subprocess.CompletedProcess(first.args, first.returncode or second.returncode, out, err + other)


def _started(args: Iterable[object], more: dict[str, object]) -> subprocess.Popen[str]:
    env = os.environ | {"OMP_NUM_THREADS": "1"} | {name: str(value) for name, value in more.items()}
    call = [*warm.python(), *map(str, args)]
    return subprocess.Popen(call, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
