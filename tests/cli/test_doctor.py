import json
import re

import pytest
from click.testing import CliRunner

from medground.cli import installation
from medground.cli.installation import Check, examine, is_well
from medground.cli.main import cli

BROKEN = "raise RuntimeError('operator torchvision::nms does not exist')\n"


@pytest.fixture(scope="module")
def checks(tmp_path_factory):
    """What the doctor finds here, beside a torchvision that does not fit its torch: {name: check}."""
    place = tmp_path_factory.mktemp("site")
    (place / "torchvision").mkdir()
    (place / "torchvision" / "__init__.py").write_text(BROKEN)
    (place / "torchvision-0.1.0.dist-info").mkdir()
    (place / "torchvision-0.1.0.dist-info" / "METADATA").write_text("Name: torchvision\nVersion: 0.1.0\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(place))
        patch.syspath_prepend(str(place))
        patch.setitem(installation.STEPS, "spacy", "report('spacy', {})\n")  # other tests try it, at length
        return {each.name: each for each in examine()}


@pytest.mark.slow
def test_a_torchvision_that_does_not_fit_is_named_with_its_fix(checks):
    found = checks["torchvision"]
    assert (found.state, found.version) == ("broken", "0.1.0")
    assert "operator torchvision::nms does not exist" in found.detail
    assert found.fix.startswith("pip uninstall torchvision")


@pytest.mark.slow
def test_what_medground_needs_works_beside_it(checks):
    assert checks["transformers"].state == "ok"
    assert is_well(list(checks.values()))


@pytest.mark.slow
def test_every_requirement_is_looked_at(checks):
    for name in ("python", "medground", "torch", "spacy", "negspacy", "numpy", "pydicom", "ultralytics"):
        assert name in checks
    assert checks["torch"].detail  # which build, which device
    assert not checks["ultralytics"].needed
    assert "AGPL-3.0" in checks["ultralytics"].detail


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


def answers(monkeypatch, **steps):
    monkeypatch.setattr(installation, "STEPS", steps)
    names = tuple(steps)
    return installation._finish(names, installation._start(names))


def test_a_step_that_fails_is_told_by_its_last_line_and_those_before_it_stand(monkeypatch):
    found = answers(monkeypatch, one="report('one', {'a': 1})\n", two="import no_such_module\n")
    assert found == {
        "one": {"a": 1},
        "two": {"error": "ModuleNotFoundError: No module named 'no_such_module'"},
    }


def test_a_step_that_crashes_without_words_is_told_by_its_code(monkeypatch):
    found = answers(monkeypatch, one="import os; os._exit(7)\n")
    assert found == {"one": {"error": "ended with code 7"}}


def test_a_step_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(installation, "PATIENCE", 0.2)
    found = answers(monkeypatch, one="import time; time.sleep(60)\n")
    assert found == {"one": {"error": "no result within 0 s"}}


@pytest.mark.parametrize(
    "text, version, state, fix",
    [
        ("numpy>=2", "2.4.6", "ok", None),
        ("numpy>=3", "2.4.6", "broken", "pip install 'numpy>=3'"),
        ("numpy>=2", None, "absent", "pip install 'numpy>=2'"),
        ('pydicom>=3; extra == "dicom"', None, "absent", "pip install 'medground[dicom]'"),
    ],
)
def test_a_package_is_judged_by_its_metadata(text, version, state, fix, monkeypatch):
    monkeypatch.setattr(installation, "_version", lambda name: version)
    check = installation._package(installation._requirement(text))
    assert check.state == state
    assert check.fix == fix or state == "ok"


ILL = Check("torch", "broken", "2.0", "it does not import", "pip install torch")
OPTIONAL = Check("torchvision", "broken", "0.1", needed=False)


@pytest.mark.parametrize("found, code", [([ILL], 1), ([OPTIONAL], 0), ([Check("x", "absent")], 1)])
def test_the_exit_code_says_whether_all_that_is_needed_works(found, code, monkeypatch):
    monkeypatch.setattr(installation, "examine", lambda: found)
    assert CliRunner().invoke(cli, ["doctor"]).exit_code == code


def test_the_table_shows_the_fix(monkeypatch):
    monkeypatch.setattr(installation, "examine", lambda: [ILL])
    shown = CliRunner().invoke(cli, ["doctor"]).stdout
    assert re.search(r"^broken +torch +2\.0 +it does not import\n +fix: pip install torch\n", shown)


def test_json_gives_one_object_a_line(monkeypatch):
    monkeypatch.setattr(installation, "examine", lambda: [ILL, OPTIONAL])
    lines = CliRunner().invoke(cli, ["doctor", "--json"]).stdout.splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["torch", "torchvision"]


def test_a_full_disk_is_noted(monkeypatch):
    usage = installation.shutil.disk_usage(".")._replace(free=10)
    monkeypatch.setattr(installation.shutil, "disk_usage", lambda path: usage)
    assert {each.state for each in installation._disks()} == {"note"}
