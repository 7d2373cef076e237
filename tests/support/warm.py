"""Python processes that start with torch loaded, because to load it takes each of them some seconds.

A server loads the heavy libraries, but nothing of medground, and forks a process for each call. The process
has the arguments, the environment, the folder and the streams of its caller, and imports medground itself:

    subprocess.run([*warm.python(), "-m", "medground", ...])

instead of `[sys.executable, "-m", "medground", ...]`. The caller's process passes on SIGINT, SIGTERM and
SIGUSR1, and ends with the same exit status. Not for tests of the start itself, nor for tests that need the ID
of the process: the ID is that of the caller.
"""

import atexit
import contextlib
import functools
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path

LOADED = (
    "accelerate",
    "safetensors.torch",
    "scipy.optimize",
    "tokenizers",
    "torch.distributed",
    "transformers",
)
LOADED_BY_MEDGROUND = ("medground.cli.pretrain", "medground.api", "medground.training.stepper")
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


@functools.cache
def python(*more: str) -> tuple[str, ...]:
    """Return the words that start Python in a forked process; the first call starts the server.

    `more` are modules that the server loads too.
    """
    folder = tempfile.TemporaryDirectory(prefix="warm")
    address = f"{folder.name}/socket"
    call = [sys.executable, __file__, "serve", address, *more]
    server = subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert server.stdout and server.stdout.read(1) == b"."

    def end() -> None:
        server.communicate()  # its standard input ends, and so does the server
        folder.cleanup()

    atexit.register(end)
    return (sys.executable, "-S", "-E", __file__, address)


def call(address: str, args: list[str]) -> None:
    """Run a program by the server at this address, and end as it does."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        request = {"args": args, "env": dict(os.environ), "folder": str(Path.cwd())}
        socket.send_fds(connection, [json.dumps(request).encode() + b"\n"], [0, 1, 2])
        answers = connection.makefile()
        pid = int(next(answers))
        for number in PASSED_ON:
            signal.signal(number, lambda number, _: os.kill(pid, number))
        code = int(next(answers))
    if code < 0:
        with contextlib.suppress(OSError):  # SIGKILL has no handler
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def serve(address: str, *more: str) -> None:
    """Fork a process for each call until standard input ends."""
    ours = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    path = [each for each in sys.path[1:] if each not in ours]
    for name in (*LOADED, *LOADED_BY_MEDGROUND, *more):
        importlib.import_module(name)
    for name in [each for each in sys.modules if each.partition(".")[0] == "medground"]:
        del sys.modules[name]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to all processes
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forked processes
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        os.write(1, b".")
        while sys.stdin.buffer not in select.select([listening, sys.stdin.buffer], [], [])[0]:
            connection, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                keep(connection, path)
            connection.close()


def keep(connection: socket.socket, path: list[str]) -> None:
    """Run the program of a call in a process of its own, and report its end; never return."""
    received, streams, *_ = socket.recv_fds(connection, 1 << 20, 3)
    while not received.endswith(b"\n"):
        received += connection.recv(1 << 20)
    request = json.loads(received)
    for number, action in ((signal.SIGCHLD, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
        signal.signal(number, action)
    pid = os.fork()
    if pid == 0:
        connection.close()
        os._exit(become(streams, path, **request))
    program = os.pidfd_open(pid)
    with contextlib.suppress(BrokenPipeError):  # the caller was killed
        connection.sendall(b"%d\n" % pid)
        if program in select.select([program, connection], [], [])[0]:
            connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            os._exit(0)
    os.kill(pid, signal.SIGKILL)
    os._exit(1)


def become(streams: list[int], path: list[str], args: list[str], env: dict[str, str], folder: str) -> int:
    """Run a program as `python ARGS` does and return its exit code; ARGS: -m MODULE, -c CODE or a script."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = sys.__stdin__ = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.__stdout__ = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", closefd=False, errors="backslashreplace")  # noqa: SIM115
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    first = "" if args[0] == "-c" else folder if args[0] == "-m" else str(Path(args[0]).parent)
    sys.path[:] = [first, *filter(None, env.get("PYTHONPATH", "").split(os.pathsep)), *path]
    code = 0
    try:
        run(args)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    # As multiprocessing ends its forks: to take down all libraries would take long.
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    return code


def run(args: list[str]) -> None:
    """Run a module, code or a script."""
    if args[0] == "-m":
        sys.argv = args[1:]
        runpy.run_module(args[1], run_name="__main__", alter_sys=True)
    elif args[0] == "-c":
        sys.argv = ["-c", *args[2:]]
        exec(compile(args[1], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = args
        runpy.run_path(args[0], run_name="__main__")


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(*sys.argv[2:])
    else:
        call(sys.argv[1], sys.argv[2:])
