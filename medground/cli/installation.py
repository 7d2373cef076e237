"""What this machine has of what medground needs: versions, what does not work, and how to mend it.

What takes long or may crash (torch, transformers, spaCy, a torchvision that does not fit) is tried in
processes of its own, all at once; the rest is read from the packages' metadata.
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

# What a process of its own does for each; `say` prints the answer, and a step that fails ends the process.
STEPS = {
    "torch": """
import torch
gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
say("torch", {"cuda": torch.version.cuda, "gpus": gpus})
""",
    "transformers": """
from medground.compat import hide_broken_torchvision
hide_broken_torchvision()
from transformers import BertModel
say("transformers", {})
""",
    "torchvision": """
from importlib.util import find_spec
if find_spec("torchvision"):
    import torchvision, torch
    torchvision.ops.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([1.0]), 0.5)
say("torchvision", {"there": find_spec("torchvision") is not None})
""",
    "spacy": """
import spacy, negspacy.negation
nlp = spacy.blank("en")
nlp.add_pipe("sentencizer")
nlp.add_pipe("negex")
say("spacy", {})
""",
}
PROBES = (("torch", "transformers"), ("spacy",), ("torchvision",))  # the steps of each process
SAY = "import json\ndef say(name, answer): print(json.dumps([name, answer]), flush=True)\n"
LICENCES = {"ultralytics": "AGPL-3.0: passing on or serving what uses it brings its terms with it"}


@dataclass(frozen=True)
class Check:
    """One thing looked at; `mend` says how to make it work, `needed` whether medground works without."""

    name: str
    state: State
    version: str | None = None
    says: str = ""
    mend: str | None = None
    needed: bool = True

    def line(self) -> str:
        """The check as one line of a table, and a second one where there is something to mend."""
        head = f"{self.state:<7} {self.name:<16} {self.version or '':<14} {self.says}".rstrip()
        return head + (f"\n{'':<8}mend: {self.mend}" if self.mend else "")

    def json(self) -> dict[str, Any]:
        """The check as one JSON object."""
        return asdict(self)


def is_well(checks: list[Check]) -> bool:
    """True when all that medground needs is there and works."""
    return not any(each.needed and each.state in ("broken", "absent") for each in checks)


def examine() -> list[Check]:
    """Every check, in the order in which they are shown; takes as long as the slowest probe."""
    running = [(steps, _start(steps)) for steps in PROBES]
    checks = [_python(), *_packages(), _cores(), *_disks()]
    found: dict[str, dict[str, Any]] = {}
    for steps, process in running:
        found |= _finish(steps, process)
    return [*(_probed(each, found) for each in checks), _torchvision(found["torchvision"])]


def _start(steps: tuple[str, ...]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", SAY + "".join(STEPS[each] for each in steps)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(medground.__file__).parent.parent,
    )


def _finish(steps: tuple[str, ...], process: "subprocess.Popen[str]") -> dict[str, dict[str, Any]]:
    """What each step answered; {"error": why} for the one that failed and those that come after it."""
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        err += f"\ndid not answer within {PATIENCE:.0f} s"
    answers = [json.loads(line) for line in out.splitlines() if line.startswith('["')]
    reason = (err.strip().splitlines() or [f"ended with code {process.returncode}"])[-1]
    return {name: {"error": reason} for name in steps} | dict(answers)


def _python() -> Check:
    fits = sys.version_info >= (3, 11)
    return Check(
        name="python",
        state="ok" if fits else "broken",
        version=platform.python_version(),
        says=sys.executable,
        mend=None if fits else "install Python 3.11 or newer",
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
    """What medground's metadata asks for, its extras last; nothing where it was never installed."""
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
    said = f"for medground[{wanted.extra}]" if wanted.extra else ""
    said = ". ".join(filter(None, (said, LICENCES.get(wanted.name))))
    mend = f"pip install '{wanted.name}{wanted.versions}'"
    if version is None:
        mend = f"pip install 'medground[{wanted.extra}]'" if wanted.extra else mend
        return Check(wanted.name, "absent", None, said, mend, needed=not wanted.extra)
    if not _fits(version, wanted.versions):
        said = ". ".join(filter(None, (said, f"medground asks for {wanted.versions}")))
        return Check(wanted.name, "broken", version, said, mend, needed=not wanted.extra)
    return Check(wanted.name, "ok", version, said, needed=not wanted.extra)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _fits(version: str, wanted: str) -> bool:
    try:
        from packaging.specifiers import SpecifierSet
    except ImportError:  # comes with transformers; without it we cannot compare, and transformers is named
        return True
    return SpecifierSet(wanted).contains(version, prereleases=True)


def _probed(check: Check, found: dict[str, dict[str, Any]]) -> Check:
    """The check with what its probe found, where it has one and the package is there."""
    if check.name not in found or check.state == "absent":
        return check
    answer = found[check.name]
    if "error" in answer:
        mend = check.mend or f"pip install --force-reinstall '{check.name}=={check.version}'"
        return Check(check.name, "broken", check.version, answer["error"], mend)
    if check.name == "torch":
        return Check(check.name, check.state, check.version, _device(answer), check.mend)
    return check


def _device(answer: dict[str, Any]) -> str:
    if answer["gpus"]:
        return f"CUDA {answer['cuda']}, GPU: {', '.join(answer['gpus'])}"
    if answer["cuda"]:
        return f"CUDA {answer['cuda']} build, no GPU seen: runs on the CPU"
    if shutil.which("nvidia-smi"):
        return "CPU build; this machine seems to have a GPU that it cannot use"
    return "CPU build"


def _torchvision(answer: dict[str, Any]) -> Check:
    """medground works without torchvision and beside a broken one; other programs here may not."""
    if "error" in answer:
        says = f"does not fit torch {_version('torch')}: {answer['error']}; medground works without it"
        return Check("torchvision", "broken", _version("torchvision"), says, _fitting(), needed=False)
    if not answer["there"]:
        return Check("torchvision", "absent", says="not needed", needed=False)
    return Check("torchvision", "ok", _version("torchvision"), "not needed", needed=False)


def _fitting() -> str:
    """How to get rid of a torchvision that does not fit, or to get the one that does."""
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
        mend = "make room: checkpoints and outputs may not fit" if low else None
        yield Check(name, "note" if low else "ok", f"{free:.1f} GB free", str(folder), mend)
