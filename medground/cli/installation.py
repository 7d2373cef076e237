"""Checks of the installation: versions, broken packages, and how to fix them.

Slow imports and imports that may crash (torch, transformers, spaCy, an incompatible torchvision) run in
separate processes, in parallel. The rest is read from the packages' metadata.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import medground

State = Literal["ok", "note", "broken", "absent"]
PATIENCE = 120.0  # seconds for one probe; a cold disk may need a minute for torch

# Code that a separate process runs for each package. `report` prints the result; a failure ends the process.
STEPS = {
    "torch": """
import torch
gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
report("torch", {"cuda": torch.version.cuda, "gpus": gpus})
""",
    "transformers": """
from medground.compat import hide_broken_torchvision
hide_broken_torchvision()
from transformers import BertModel
report("transformers", {})
""",
    "torchvision": """
from importlib.util import find_spec
if find_spec("torchvision"):
    import torchvision, torch
    torchvision.ops.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([1.0]), 0.5)
report("torchvision", {"there": find_spec("torchvision") is not None})
""",
    "spacy": """
import spacy, negspacy.negation
nlp = spacy.blank("en")
nlp.add_pipe("sentencizer")
nlp.add_pipe("negex")
report("spacy", {})
""",
}
PROBES = (("torch", "transformers"), ("spacy",), ("torchvision",))  # the steps of each process
REPORT = "import json\ndef report(name, result): print(json.dumps([name, result]), flush=True)\n"
LICENCES = {"ultralytics": "AGPL-3.0: its terms apply to software that distributes or serves it"}


@dataclass(frozen=True)
class Check:
    """One check: its result (`detail`), its `fix`, and whether medground needs it."""

    name: str
    state: State
    version: str | None = None
    detail: str = ""
    fix: str | None = None
    needed: bool = True

    def line(self) -> str:
        """Return the check as a line of a table, followed by a line with the fix if there is one."""
        head = f"{self.state:<7} {self.name:<16} {self.version or '':<14} {self.detail}".rstrip()
        return head + (f"\n{'':<8}fix: {self.fix}" if self.fix else "")

    def json(self) -> dict[str, Any]:
        """Return the check as a JSON object."""
        return asdict(self)


def is_well(checks: list[Check]) -> bool:
    """Return whether all required packages are installed and work."""
    return not any(each.needed and each.state in ("broken", "absent") for each in checks)


def examine() -> list[Check]:
    """Return all checks in display order; takes as long as the slowest probe."""
    running = [(steps, _start(steps)) for steps in PROBES]
    checks = [_python(), *_packages(), _cores(), *_disks()]
    found: dict[str, dict[str, Any]] = {}
    for steps, process in running:
        found |= _finish(steps, process)
    return [*(_probed(each, found) for each in checks), _torchvision(found["torchvision"])]


def _start(steps: tuple[str, ...]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", REPORT + "".join(STEPS[each] for each in steps)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(medground.__file__).parent.parent,
    )


def _finish(steps: tuple[str, ...], process: "subprocess.Popen[str]") -> dict[str, dict[str, Any]]:
    """Return the result of each step; {"error": reason} for a failed step and all later ones."""
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        err += f"\nno result within {PATIENCE:.0f} s"
    results = [json.loads(line) for line in out.splitlines() if line.startswith('["')]
    reason = (err.strip().splitlines() or [f"ended with code {process.returncode}"])[-1]
    return {name: {"error": reason} for name in steps} | dict(results)


def _python() -> Check:
    fits = sys.version_info >= (3, 11)
    return Check(
        name="python",
        state="ok" if fits else "broken",
        version=platform.python_version(),
        detail=sys.executable,
        fix=None if fits else "install Python 3.11 or newer",
    )


@dataclass(frozen=True)
class _Requirement:
    name: str
    versions: str
    extra: str | None


def _packages() -> Iterator[Check]:
    yield Check(name="medground", state="ok", version=medground.__version__)
    for wanted in _requirements():
        yield _package(wanted)


def _requirements() -> list[_Requirement]:
    """Return the requirements in medground's metadata, extras last; [] if it is not installed."""
    try:
        wanted = metadata.requires("medground") or []
    except metadata.PackageNotFoundError:
        return []
    found = [_requirement(each) for each in wanted]
    return sorted(found, key=lambda each: (each.extra or "", each.name))


def _requirement(text: str) -> _Requirement:
    name = re.match(r"[\w.-]+", text)
    extra = re.search(r"extra == ['\"]([\w-]+)['\"]", text)
    assert name is not None  # metadata is written by the build, not by hand
    versions = text[name.end() :].partition(";")[0]
    return _Requirement(name[0], versions.strip(" ()"), extra[1] if extra else None)


def _package(wanted: _Requirement) -> Check:
    version = _version(wanted.name)
    detail = f"for medground[{wanted.extra}]" if wanted.extra else ""
    detail = ". ".join(filter(None, (detail, LICENCES.get(wanted.name))))
    fix = f"pip install '{wanted.name}{wanted.versions}'"
    if version is None:
        fix = f"pip install 'medground[{wanted.extra}]'" if wanted.extra else fix
        return Check(wanted.name, "absent", None, detail, fix, needed=not wanted.extra)
    if not _fits(version, wanted.versions):
        detail = ". ".join(filter(None, (detail, f"medground requires {wanted.versions}")))
        return Check(wanted.name, "broken", version, detail, fix, needed=not wanted.extra)
    return Check(wanted.name, "ok", version, detail, needed=not wanted.extra)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _fits(version: str, wanted: str) -> bool:
    try:
        from packaging.specifiers import SpecifierSet
    except (
        ImportError
    ):  # part of transformers; without it versions cannot be compared, and transformers is reported
        return True
    return SpecifierSet(wanted).contains(version, prereleases=True)


def _probed(check: Check, found: dict[str, dict[str, Any]]) -> Check:
    """Return the check with the result of its probe, if the package is installed and has a probe."""
    if check.name not in found or check.state == "absent":
        return check
    result = found[check.name]
    if "error" in result:
        fix = check.fix or f"pip install --force-reinstall '{check.name}=={check.version}'"
        return Check(check.name, "broken", check.version, result["error"], fix)
    if check.name == "torch":
        return Check(check.name, check.state, check.version, _device(result), check.fix)
    return check


def _device(result: dict[str, Any]) -> str:
    if result["gpus"]:
        return f"CUDA {result['cuda']}, GPU: {', '.join(result['gpus'])}"
    if result["cuda"]:
        return f"CUDA {result['cuda']} build, no GPU found: runs on the CPU"
    if shutil.which("nvidia-smi"):
        return "CPU build; this machine has a GPU that it cannot use"
    return "CPU build"


def _torchvision(result: dict[str, Any]) -> Check:
    """Return the check of torchvision. medground does not need it, but other programs may."""
    if "error" in result:
        detail = f"does not fit torch {_version('torch')}: {result['error']}; medground works without it"
        return Check("torchvision", "broken", _version("torchvision"), detail, _fitting(), needed=False)
    if not result["there"]:
        return Check("torchvision", "absent", detail="not needed", needed=False)
    return Check("torchvision", "ok", _version("torchvision"), "not needed", needed=False)


def _fitting() -> str:
    """Return how to remove an incompatible torchvision, or install the compatible one."""
    remove = "pip uninstall torchvision"
    torch = re.match(r"2\.(\d+)\.\d+(\+cpu)?", _version("torch") or "")
    if not torch:
        return remove
    where = " --index-url https://download.pytorch.org/whl/cpu" if torch[2] else ""
    # torchvision 0.15 came with torch 2.0, and every release since in step
    return (
        f"{remove}; or install the one that fits: pip install 'torchvision==0.{int(torch[1]) + 15}.*'{where}"
    )


def _cores() -> Check:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    limit = os.environ.get("OMP_NUM_THREADS")
    return Check("cores", "ok", str(usable), f"OMP_NUM_THREADS={limit}" if limit else "")


def _disks() -> Iterator[Check]:
    for name, folder in (("disk", Path.cwd()), ("temporary disk", Path(tempfile.gettempdir()))):
        free = shutil.disk_usage(folder).free / 1e9
        low = free < 1
        fix = "free disk space: checkpoints and outputs may not fit" if low else None
        yield Check(name, "note" if low else "ok", f"{free:.1f} GB free", str(folder), fix)
