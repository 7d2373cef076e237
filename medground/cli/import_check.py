"""Try imports in a process of their own, with the import path of this process.

A process of its own is needed because an import may crash or hang. Its import path is this process's, so that
each import finds what a command would find.
"""

import json
import subprocess
import sys
from collections.abc import Iterable

from medground.cli.needs import Import

PATIENCE = 180.0  # seconds for all imports; a slow disk may need a minute for torch
SCRIPT = """
import importlib, json, sys
path, hide, wanted = json.load(sys.stdin)
sys.path[:] = path
if hide:
    from medground.compat_transformers import hide_broken_torchvision
    hide_broken_torchvision()
def attempt(module, name, call):
    found = importlib.import_module(module)
    if name is None:
        return None
    try:
        value = getattr(found, name)
    except AttributeError:
        value = importlib.import_module(f"{module}.{name}")
    return value() if call else None
for each in wanted:
    print(json.dumps(["start", None]), flush=True)
    try:
        attempt(*each)
        print(json.dumps(["end", None]), flush=True)
    except BaseException as error:
        text = " ".join(str(error).split())
        print(json.dumps(["end", f"{type(error).__name__}: {text}"[:500]]), flush=True)
"""


def failures(imports: Iterable[Import], hide_torchvision: bool = True) -> dict[Import, str]:
    """Return the error of each import that fails, as one line; an empty dict if all succeed.

    The imports are tried in order. If one crashes or hangs, the rest is tried in a new process.
    `hide_torchvision` hides a broken torchvision first, as the commands do.
    """
    waiting = [*dict.fromkeys(imports)]
    failed: dict[Import, str] = {}
    while waiting:
        results, ending = _attempt(waiting, hide_torchvision)
        failed |= {each: error for each, error in zip(waiting, results, strict=False) if error}
        waiting = waiting[len(results) :]
        if ending:
            if not waiting:
                break
            failed[waiting.pop(0)] = ending
    return failed


def _attempt(imports: list[Import], hide_torchvision: bool) -> tuple[list[str | None], str | None]:
    """Return the error or None of each import up to a crash, and how the process ended if it crashed."""
    given = json.dumps(
        [sys.path, hide_torchvision, [(each.module, each.name, each.call) for each in imports]]
    )
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-P", "-c", SCRIPT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    ending = None
    try:
        out, err = process.communicate(given, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        ending = f"no result within {PATIENCE:g} s"
    results = [json.loads(line)[1] for line in out.splitlines() if line.startswith('["end"')]
    if process.returncode and ending is None:
        ending = (err.strip().splitlines() or [f"the process ended with code {process.returncode}"])[-1]
    return results, ending
