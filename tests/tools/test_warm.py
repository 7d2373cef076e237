"""Forked Python processes behave as those of `python` do: arguments, streams, exit codes and signals."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import warm
from processes import gone

pytestmark = pytest.mark.slow  # starts processes
SHOW = """
import json, os, sys
print(json.dumps([sys.argv, os.getcwd(), os.environ.get("WORD"), sys.stdin.read(), __name__]))
print("to stderr", file=sys.stderr)
"""
KINDS = {"python": (sys.executable,), "forked": None}


def call(kind: str, *words: object, **how: object) -> subprocess.CompletedProcess[str]:
    """Run Python with these words, started anew or forked."""
    python = KINDS[kind] or warm.python()
    return subprocess.run([*python, *map(str, words)], capture_output=True, text=True, timeout=60, **how)


def both(*words: object, **how: object) -> list[tuple[int, str, str]]:
    """Return exit code, stdout and stderr of a process started anew and of a forked one."""
    done = [call(kind, *words, **how) for kind in KINDS]
    return [(each.returncode, each.stdout, each.stderr) for each in done]


@pytest.mark.parametrize("form", ["code", "script", "module"])
def test_arguments_folder_environment_and_streams_are_those_of_the_caller(form, tmp_path):
    script = tmp_path / "shown.py"
    script.write_text(SHOW)
    words = {"code": ("-c", SHOW), "script": (script,), "module": ("-m", "shown")}[form]
    environment = {**os.environ, "WORD": "a b", "PYTHONPATH": str(tmp_path)}
    fresh, forked = both(*words, "x", "y z", cwd=tmp_path, env=environment, input="text\n")
    assert forked == fresh and forked[0] == 0
    assert json.loads(forked[1])[1:] == [str(tmp_path), "a b", "text\n", "__main__"]


@pytest.mark.parametrize(
    "end", ["", "sys.exit(3)", "sys.exit('a message')", "raise SystemExit", "os._exit(7)", "sys.exit(True)"]
)
def test_it_ends_with_the_same_exit_code_and_message(end):
    fresh, forked = both("-c", f"import os, sys\nprint('out', flush=True)\n{end}")
    assert forked == fresh


def test_an_uncaught_error_is_a_traceback_and_code_1():
    forked = call("forked", "-c", "raise ValueError('no')")
    assert forked.returncode == 1 and forked.stderr.endswith("ValueError: no\n")
    assert "Traceback" in forked.stderr


def test_what_runs_at_the_end_runs_and_buffers_are_written():
    code = "import atexit, sys; atexit.register(print, 'last'); sys.stdout.write('first ')"
    fresh, forked = both("-c", code)
    assert forked == fresh == (0, "first last\n", "")


def test_libraries_are_loaded_and_medground_is_that_of_the_caller(tmp_path):
    own = tmp_path / "own" / "medground"
    own.mkdir(parents=True)
    (own / "__init__.py").write_text("")
    code = "import sys; print('torch' in sys.modules); import medground; print(medground.__file__)"
    forked = call("forked", "-c", code, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(own.parent)})
    assert forked.stdout.split() == ["True", str(own / "__init__.py")], forked.stderr


def test_calls_do_not_change_each_other():
    call("forked", "-c", "import os, json; json.dumps = None; os.environ['WORD'] = 'x'; os.chdir('/')")
    code = "import os, json; print(json.dumps([os.environ.get('WORD'), os.getcwd()]))"
    assert json.loads(call("forked", "-c", code).stdout) == [None, str(Path.cwd())]


WAIT = """
import os, signal, sys, time
from pathlib import Path
{handler}
Path(sys.argv[1]).write_text(str(os.getpid()))
time.sleep(60)
"""
CATCH = "signal.signal(signal.{name}, lambda *_: sys.exit(75))"


def started(path: Path, handler: str) -> tuple[subprocess.Popen[bytes], int]:
    """Start a process that waits; return the caller's process and the ID of the forked one."""
    command = [*warm.python(), "-c", WAIT.format(handler=handler), path]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 30
    while not (path.exists() and path.read_text()):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    return process, int(path.read_text())


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR1"])
def test_a_signal_to_the_caller_arrives(name, tmp_path):
    process, forked = started(tmp_path / "pid", CATCH.format(name=name))
    process.send_signal(signal.Signals[name])
    assert process.wait(30) == 75 and gone([forked])


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_signal_without_a_handler_ends_both(name, tmp_path):
    process, forked = started(tmp_path / "pid", "")
    process.send_signal(signal.Signals[name])
    assert process.wait(30) == -signal.Signals[name] and gone([forked])


def test_the_end_of_the_forked_process_is_that_of_the_caller(tmp_path):
    process, forked = started(tmp_path / "pid", "")
    os.kill(forked, signal.SIGKILL)
    assert process.wait(30) == -signal.SIGKILL


def test_a_caller_that_is_killed_leaves_no_process(tmp_path):
    process, forked = started(tmp_path / "pid", "")
    process.kill()
    process.wait(30)
    assert gone([forked])
