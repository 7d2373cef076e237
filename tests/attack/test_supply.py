"""What a published install takes: files with known hashes, on a base image with a digest."""

import re
import subprocess
import tomllib

import pytest
from paths import ROOT

REQUIREMENTS = (ROOT / "requirements.txt").read_text()
BLOCKS = re.split(r"\n(?=\S)", REQUIREMENTS.strip())
DIGEST = "python:3.11-slim@sha256:" + "0" * 64


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(text: str) -> dict[str, str]:
    return {plain(name): version for name, version in re.findall(r"^([\w.-]+)==([\w.+-]+)", text, re.M)}


def test_every_requirement_has_a_version_and_hashes():
    assert len(BLOCKS) == len(pinned(REQUIREMENTS)) > 60
    for block in BLOCKS:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block
    assert "http://" not in REQUIREMENTS and "https://" not in REQUIREMENTS


def test_the_versions_are_those_that_the_tests_run_with():
    tested, published = pinned((ROOT / "constraints.txt").read_text()), pinned(REQUIREMENTS)
    both = tested.keys() & published.keys()
    assert {name: tested[name] for name in both} == {name: published[name] for name in both}
    assert len(both) > 60


def test_every_dependency_of_the_package_is_there():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for each in (*project["dependencies"], *extras["dicom"]):
        assert plain(re.match(r"[\w.-]+", each)[0]) in pinned(REQUIREMENTS), each


def test_the_image_installs_all_but_torch_by_hash():
    rule = re.search(r"sed -E '(.*?)'", (ROOT / "containers/Dockerfile").read_text())[1]
    done = subprocess.run(
        ["sed", "-E", rule], input=REQUIREMENTS, capture_output=True, text=True, check=True
    ).stdout
    left = pinned(REQUIREMENTS).keys() - pinned(done).keys()
    assert "torch" in left and all(re.match("torch|triton|nvidia-|cuda-", name) for name in left)
    blocks = re.split(r"\n(?=\S)", done.strip())
    assert len(blocks) == len(pinned(done)) and all("--hash=" in block for block in blocks)


@pytest.mark.parametrize("name", ["Dockerfile", "medground.def"])
@pytest.mark.parametrize(
    ("release", "base", "code"),
    [("", "python:3.11-slim", 0), ("1", "python:3.11-slim", 1), ("1", DIGEST, 0), ("", DIGEST, 0)],
)
def test_a_release_needs_a_base_with_a_digest(name, release, base, code):
    check = re.search(r"case .* esac", (ROOT / "containers" / name).read_text())[0]
    check = check.replace("{{ release }}", release).replace("{{ base }}", base)
    done = subprocess.run(["sh", "-c", check], env={"RELEASE": release, "BASE": base}, capture_output=True)
    assert done.returncode == code


def test_make_refuses_a_release_without_a_digest():
    for base in ("", "python:3.11-slim", "python:3.11-slim@sha256:123"):
        words = ["make", "-s", "release-image", f"BASE={base}"]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode != 0 and "a release needs a base with a digest" in done.stderr
