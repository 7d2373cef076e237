import json
import re
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from medground.cli import import_check, installation, needs
from medground.cli.align import align
from medground.cli.calibrate import calibrate
from medground.cli.installation import Check, examine, is_well
from medground.cli.main import cli
from medground.cli.needs import Import
from medground.cli.parse_reports import parse_reports

GROUP = click.Group(commands={"align": align, "parse-reports": parse_reports, "calibrate": calibrate})
WORKING = {f"medground {name}" for name in GROUP.commands}


def checks_of(group=GROUP):
    return {each.name: each for each in examine(group)}


def broken_commands(checks):
    return {name for name in WORKING if checks[name].state == "broken"}


def add_package(folder, name, code):
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(code)


@pytest.fixture
def no_extras(monkeypatch):
    """Leave out the imports of optional packages, which `checks` has and which take seconds."""
    monkeypatch.setattr(installation, "EXTRAS", ())


@pytest.fixture
def first_on_path(tmp_path, monkeypatch):
    """Return a function that puts a package with this code before all others on the import path."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return lambda name, code: add_package(tmp_path, name, code)


@pytest.fixture
def without(tmp_path, monkeypatch):
    """Return a function that takes a package out of the import path."""

    def remove(name):
        for folder in [Path(each) for each in sys.path if Path(each, name).is_dir()]:
            links = tmp_path / f"without-{name}"
            links.mkdir()
            for each in folder.iterdir():
                if not re.match(rf"_?{name}\b", each.name):
                    (links / each.name).symlink_to(each)
            monkeypatch.setattr(
                sys, "path", [str(links) if each == str(folder) else each for each in sys.path]
            )

    return remove


@pytest.fixture(scope="module")
def checks(tmp_path_factory):
    """The checks of this installation, with a torchvision that does not fit torch: {name: check}."""
    place = tmp_path_factory.mktemp("site")
    add_package(place, "torchvision", "raise RuntimeError('operator torchvision::nms does not exist')\n")
    (place / "torchvision-0.1.0.dist-info").mkdir()
    (place / "torchvision-0.1.0.dist-info" / "METADATA").write_text("Name: torchvision\nVersion: 0.1.0\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(place))
        return checks_of()


@pytest.mark.slow
def test_a_torchvision_that_does_not_fit_is_reported_with_the_way_to_fix_it(checks):
    found = checks["torchvision"]
    assert (found.state, found.version) == ("broken", "0.1.0")
    assert "operator torchvision::nms does not exist" in found.detail
    assert found.fix.startswith("pip uninstall torchvision")


@pytest.mark.slow
def test_all_commands_work_with_it(checks):
    assert checks["transformers"].state == "ok"
    assert not broken_commands(checks)
    assert is_well(list(checks.values()))


@pytest.mark.slow
def test_every_requirement_is_checked(checks):
    for name in ("python", "medground", "torch", "spacy", "negspacy", "numpy", "pydicom", "ultralytics"):
        assert name in checks
    assert not checks["ultralytics"].needed
    assert "AGPL-3.0" in checks["ultralytics"].detail


@pytest.mark.slow
def test_the_device_of_torch_is_named(checks):
    assert {each.name: each for each in installation.with_device([*checks.values()])}["torch"].detail


@pytest.mark.slow
def test_a_broken_transformers_on_the_import_path_is_reported(no_extras, first_on_path, tmp_path):
    first_on_path("transformers", "raise ImportError('half of it is missing')\n")
    found = checks_of()
    assert found["transformers"].state == "broken"
    assert "half of it is missing" in found["transformers"].detail
    assert f"remove {tmp_path} from PYTHONPATH" in found["transformers"].fix
    assert broken_commands(found) == {"medground calibrate"}
    assert f"remove {tmp_path} from PYTHONPATH" in found["medground calibrate"].fix
    assert not is_well(list(found.values()))


@pytest.mark.slow
def test_a_transformers_whose_models_do_not_import_is_reported(no_extras, first_on_path):
    first_on_path("transformers", "")
    assert broken_commands(checks_of()) == {"medground calibrate"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, commands",
    [("msgspec", WORKING), ("scipy", {"medground calibrate"}), ("negspacy", {"medground parse-reports"})],
)
def test_a_missing_package_is_reported_for_each_command_that_needs_it(name, commands, no_extras, without):
    without(name)
    found = checks_of()
    assert found[name].state == "absent"
    assert broken_commands(found) == commands
    assert all(f"pip install '{name}" in found[each].fix for each in commands)


@pytest.mark.slow
def test_a_broken_spacy_is_reported_and_breaks_only_an_option(no_extras, first_on_path):
    first_on_path("spacy", "raise ImportError('no')\n")
    found = checks_of()
    assert not broken_commands(found)
    assert found["spacy"].state == found["medground parse-reports --existence-by"].state == "broken"
    assert not is_well(list(found.values()))


@pytest.mark.slow
def test_the_needs_of_each_command_are_read_from_the_source():
    found = {name: {each.top for each in imports} for name, imports in needs.of_commands(cli).items()}
    assert {"msgspec", "orjson"} <= found["align"]
    assert not {"torch", "numpy"} & found["align"]
    assert "scipy" in found["calibrate"]
    assert {"accelerate", "torch", "transformers"} <= found["finetune"]
    assert "torch" not in found["evaluate"]
    assert "torch" in found["evaluate --probes"]
    assert not {top for tops in found.values() for top in tops} & set(needs.EXTRAS)


@pytest.mark.parametrize(
    "torch, fitting",
    [
        ("2.13.0+cpu", "'torchvision==0.28.*' --index-url https://download.pytorch.org/whl/cpu"),
        ("2.11.0", "'torchvision==0.26.*'"),
        ("3.0", "pip uninstall torchvision"),
        (None, "pip uninstall torchvision"),
    ],
)
def test_the_torchvision_that_fits_is_known(torch, fitting, monkeypatch):
    monkeypatch.setattr(installation, "_version", lambda name: torch)
    assert installation._fitting().endswith(fitting)


def test_a_failed_import_is_described_and_the_others_are_tried(first_on_path):
    first_on_path("one", "")
    first_on_path("two", "raise ImportError('no')")
    first_on_path("three", "value = 1")
    wanted = [Import("two"), Import("no_such_module"), Import("one", "missing"), Import("three", "value")]
    assert import_check.failures(wanted, hide_torchvision=False) == {
        Import("two"): "ImportError: no",
        Import("no_such_module"): "ModuleNotFoundError: No module named 'no_such_module'",
        Import("one", "missing"): "ModuleNotFoundError: No module named 'one.missing'",
    }


def test_an_import_that_crashes_is_described_by_its_exit_code(first_on_path):
    first_on_path("crash", "import os; os._exit(7)")
    first_on_path("after", "raise ImportError('no')")
    found = import_check.failures([Import("crash"), Import("after")], hide_torchvision=False)
    assert found == {
        Import("crash"): "the process ended with code 7",
        Import("after"): "ImportError: no",
    }


@pytest.mark.slow
def test_an_import_that_hangs_is_stopped(first_on_path, monkeypatch):
    first_on_path("endless", "import time; time.sleep(60)")
    monkeypatch.setattr(import_check, "PATIENCE", 1)
    found = import_check.failures([Import("endless")], hide_torchvision=False)
    assert found == {Import("endless"): "no result within 1 s"}


@pytest.mark.parametrize(
    "text, version, state, fix",
    [
        ("numpy>=2", "2.4.6", "ok", None),
        ("numpy>=3", "2.4.6", "note", None),
        ("no-such-package>=2", None, "absent", "pip install 'no-such-package>=2'"),
        ('no-such-package>=3; extra == "dicom"', None, "absent", "pip install 'medground[dicom]'"),
    ],
)
def test_a_package_is_checked_by_its_metadata(text, version, state, fix, monkeypatch):
    monkeypatch.setattr(installation, "_version", lambda name: version)
    check = installation._package(installation._requirement(text), None)
    assert (check.state, check.fix) == (state, fix)
    assert ("is tested with >=3" in check.detail) == (state == "note")


ILL = Check("medground align", "broken", None, "msgspec: it does not import", "pip install msgspec")
OPTIONAL = Check("torchvision", "broken", "0.1", needed=False)


@pytest.mark.parametrize("found, code", [([ILL], 1), ([OPTIONAL], 0), ([Check("x", "absent")], 1)])
def test_the_exit_code_is_1_if_something_needed_is_broken(found, code, monkeypatch):
    monkeypatch.setattr(installation, "examine", lambda group: found)
    assert CliRunner().invoke(cli, ["doctor"]).exit_code == code


def test_the_table_shows_the_fix(monkeypatch):
    monkeypatch.setattr(installation, "examine", lambda group: [ILL])
    shown = CliRunner().invoke(cli, ["doctor"]).stdout
    assert re.search(r"^broken +medground align +msgspec: it.*\n +fix: pip install msgspec\n", shown)


def test_json_gives_one_object_per_line(monkeypatch):
    monkeypatch.setattr(installation, "examine", lambda group: [ILL, OPTIONAL])
    lines = CliRunner().invoke(cli, ["doctor", "--json"]).stdout.splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["medground align", "torchvision"]


def test_a_full_disk_is_noted(monkeypatch):
    usage = installation.shutil.disk_usage(".")._replace(free=10)
    monkeypatch.setattr(installation.shutil, "disk_usage", lambda path: usage)
    assert {each.state for each in installation._disks()} == {"note"}


def test_a_compiled_parser_is_named(tmp_path, monkeypatch):
    assert installation._parser().line().split(maxsplit=1) == ["ok", "parser of reports   plain Python"]
    (tmp_path / "reports").mkdir()
    monkeypatch.setattr(installation.medground, "__file__", str(tmp_path / "__init__.py"))
    for name in ("parser.py", f"parser{EXTENSION_SUFFIXES[0]}"):
        (tmp_path / "reports" / name).touch()
    assert installation._parser().version == "compiled"
