"""Checks of the installation: Python, packages, the imports of each command, processor cores and disks."""

import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any, Literal

import click

import medground
from medground.cli import import_check, needs
from medground.cli.needs import Import

State = Literal["ok", "note", "broken", "absent"]
MODULES = {"pillow": "PIL", "python-gdcm": "gdcm", "tomli-w": "tomli_w"}  # the package's name -> its module
LICENSES = {"ultralytics": "AGPL-3.0: its terms also hold for programs that use it, and for services"}
EXTRAS = ("gdcm", "highdicom", "pydicom", "tensorboard")  # ultralytics writes files on import
TORCHVISION = (Import("torchvision"), Import("torchvision.ops", "nms"))


@dataclass(frozen=True)
class Check:
    """One result. `fix` says how to repair it; `needed` is whether medground needs it."""

    name: str
    state: State
    version: str | None = None
    detail: str = ""
    fix: str | None = None
    needed: bool = True

    def line(self) -> str:
        """Return the check as one line of a table, and a second line with the fix if there is one."""
        head = f"{self.state:<7} {self.name:<19} {self.version or '':<14} {self.detail}".rstrip()
        return head + (f"\n{'':<8}fix: {self.fix}" if self.fix else "")

    def json(self) -> dict[str, Any]:
        """Return the check as a JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class Requirement:
    """A package that the metadata of medground names: versions, and the extra that it belongs to."""

    name: str
    versions: str
    extra: str | None = None

    @property
    def module(self) -> str:
        """The top-level module of the package."""
        return MODULES.get(self.name, self.name.replace("-", "_"))


def is_well(checks: list[Check]) -> bool:
    """Return whether Python, medground and all commands work."""
    return not any(each.needed and each.state in ("broken", "absent") for each in checks)


def examine(group: click.Group) -> list[Check]:
    """Return every check, in the order in which they are printed."""
    commands = needs.of_commands(group)
    wanted = [each for imports in commands.values() for each in imports]
    extras = [Import(each) for each in EXTRAS if _spec(each) is not None]
    failed = import_check.failures([*wanted, *extras])
    tops = {each.top for imports in commands.values() for each in imports} - {"medground"}
    requirements = _requirements() or [Requirement(_package_of(top), "") for top in sorted(tops)]
    return [
        _python(),
        Check("medground", "ok", medground.__version__, str(Path(medground.__file__).parent)),
        _parser(),
        *(_package(each, _error_of(each, failed)) for each in requirements),
        _torchvision(),
        *(_command(name, imports, failed, requirements) for name, imports in commands.items()),
        _cores(),
        *_disks(),
    ]


def _python() -> Check:
    fits = sys.version_info >= (3, 11)
    fix = None if fits else "install Python 3.11 or newer"
    return Check("python", "ok" if fits else "broken", platform.python_version(), sys.executable, fix)


def _parser() -> Check:
    """Return whether the parser of reports is compiled; plain Python gives the same results."""
    spec = PathFinder.find_spec("parser", [str(Path(medground.__file__).parent / "reports")])
    plain = spec is not None and spec.origin is not None and spec.origin.endswith(".py")
    return Check("parser of reports", "ok", "plain Python" if plain else "compiled")


def _requirements() -> list[Requirement]:
    """Return the requirements of medground's metadata, extras last; none if it was never installed."""
    try:
        wanted = metadata.requires("medground") or []
    except metadata.PackageNotFoundError:
        return []
    found = map(_requirement, wanted)
    kept = [each for each in found if each.extra in (None, *needs.EXTRAS.values())]
    return sorted(kept, key=lambda each: (each.extra or "", each.name))


def _requirement(text: str) -> Requirement:
    name = re.match(r"[\w.-]+", text)
    extra = re.search(r"extra == ['\"]([\w-]+)['\"]", text)
    assert name is not None  # the metadata is written by the build
    versions = text[name.end() :].partition(";")[0]
    return Requirement(name[0], versions.strip(" ()"), extra[1] if extra else None)


def _package(wanted: Requirement, error: str | None) -> Check:
    """Return the check of a package: what its metadata states, and whether its imports work."""
    version = _version(wanted.name)
    detail = _detail(wanted, version)
    if error or (version is None and _spec(wanted.module) is None):
        state: State = "broken" if error and version else "absent"
        detail = error if error and version else detail
        return Check(wanted.name, state, version, detail, _fix(wanted, version), needed=False)
    state = "ok" if version is None or _fits(version, wanted.versions) else "note"
    return Check(wanted.name, state, version, detail, needed=False)


def _detail(wanted: Requirement, version: str | None) -> str:
    found = [f"for medground[{wanted.extra}]" if wanted.extra else "", LICENSES.get(wanted.name, "")]
    if version and not _fits(version, wanted.versions):
        found.append(f"medground is tested with {wanted.versions}")
    return ". ".join(filter(None, found))


def _fix(wanted: Requirement, version: str | None) -> str:
    """Return the way to repair a package: remove a copy on PYTHONPATH, or install it."""
    place = _other_place(wanted, version)
    if place:
        return f"remove {place} from PYTHONPATH, or move {wanted.module} out of it"
    if version and _fits(version, wanted.versions):
        return f"pip install --force-reinstall '{wanted.name}=={version}'"
    return f"pip install '{f'medground[{wanted.extra}]' if wanted.extra else wanted.name + wanted.versions}'"


def _other_place(wanted: Requirement, version: str | None) -> str | None:
    """Return the folder that the module comes from, if it is not that of the installed package."""
    spec = _spec(wanted.module)
    if spec is None or spec.origin is None or version is None:
        return None
    found = (
        Path(spec.origin).parent if spec.submodule_search_locations is None else Path(spec.origin).parents[1]
    )
    installed = Path(str(metadata.distribution(wanted.name).locate_file("")))
    return None if found.resolve() == installed.resolve() else str(found)


def _spec(module: str) -> ModuleSpec | None:
    return PathFinder.find_spec(module, sys.path)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _fits(version: str, wanted: str) -> bool:
    try:
        from packaging.specifiers import SpecifierSet
    except ImportError:  # transformers brings it; without it versions cannot be compared
        return True
    return SpecifierSet(wanted).contains(version, prereleases=True)


def _error_of(wanted: Requirement, failed: dict[Import, str]) -> str | None:
    """Return the error of the package's own imports, or None."""
    names = {wanted.module, *(name for name, (_, package) in needs.READERS.items() if package == wanted.name)}
    return next((error for each, error in failed.items() if names & {each.top, each.module}), None)


def _package_of(module: str) -> str:
    return next((package for package, name in MODULES.items() if name == module), module)


def _command(
    name: str, imports: list[Import], failed: dict[Import, str], requirements: Iterable[Requirement]
) -> Check:
    """Return the check of a command: the imports that fail, and how to repair them."""
    bad = {each: failed[each] for each in imports if each in failed}
    outside = {each: error for each, error in bad.items() if each.top != "medground" or each.call}
    if not bad:
        return Check(f"medground {name}", "ok")
    shown = outside or bad
    packages = dict.fromkeys(
        needs.READERS[each.module][1] if each.call else _package_of(each.top) for each in shown
    )
    wanted = {each.name: each for each in requirements}
    fixes = [
        _fix(wanted.get(each, Requirement(each, "")), _version(each))
        for each in packages
        if each != "medground"
    ]
    detail = next(iter(shown.values()))
    return Check(f"medground {name}", "broken", None, f"{', '.join(packages)}: {detail}", "; ".join(fixes))


def _torchvision() -> Check:
    """Return the check of torchvision: medground works without it, and with a broken one."""
    if _spec("torchvision") is None:
        return Check("torchvision", "absent", None, "not needed", needed=False)
    version = _version("torchvision")
    errors = [*import_check.failures(TORCHVISION, hide_torchvision=False).values()]
    if errors:
        detail = f"does not fit torch {_version('torch')}: {errors[0]}; medground works without it"
        return Check("torchvision", "broken", version, detail, _fitting(), needed=False)
    return Check("torchvision", "ok", version, "not needed", needed=False)


def _fitting() -> str:
    """Return how to remove a torchvision that does not fit torch, or how to install the one that does."""
    remove = "pip uninstall torchvision"
    torch = re.match(r"2\.(\d+)\.\d+(\+cpu)?", _version("torch") or "")
    if not torch:
        return remove
    where = " --index-url https://download.pytorch.org/whl/cpu" if torch[2] else ""
    # torchvision 0.15 was released with torch 2.0, and the next releases together
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
        fix = "free some space: checkpoints and outputs may not fit" if low else None
        yield Check(name, "note" if low else "ok", f"{free:.1f} GB free", str(folder), fix)


def with_device(checks: list[Check]) -> list[Check]:
    """Return the checks with the device that torch can use, if torch works."""
    if any(each.name == "torch" and each.state in ("broken", "absent") for each in checks):
        return checks
    detail = device()
    return [replace(each, detail=detail) if each.name == "torch" else each for each in checks]


def device() -> str:
    """Return the GPUs that torch finds, or that it runs on the CPU."""
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return f"CUDA {torch.version.cuda}, GPU: {', '.join(names)}"
    if torch.version.cuda:
        return f"CUDA {torch.version.cuda} build, no GPU found: runs on the CPU"
    if shutil.which("nvidia-smi"):
        return "CPU build; this machine seems to have a GPU that it cannot use"
    return "CPU build"
