"""Scripts run by two processes that share their batches."""

import os
import socket
import subprocess
import sys

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
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    call = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", port]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [str(each) for each in [*call, *args]]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=env, text=True, **pipes) as process:
        try:
            out, err = process.communicate(timeout=240)
        except BaseException:
            process.terminate()  # it ends both processes
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)
