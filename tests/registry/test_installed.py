"""How entry points of other packages are found without importlib.metadata."""

import sys
import zipfile
from types import SimpleNamespace

import pytest

from medground.registry import installed

GROUP = "medground.objectives"
POINTS = f"[{GROUP}]\nown = own_package:ENTRY\n"
METADATA = "Metadata-Version: 2.1\nName: own-package\nVersion: 1.0\n"


@pytest.fixture
def names(monkeypatch, tmp_path):
    """Return the function that returns the names of the entry points in a folder or file."""

    def of(path):
        monkeypatch.setattr(sys, "path", [str(path), str(tmp_path / "absent")])
        return [each.name for each in installed.entry_points(GROUP)]

    return of


@pytest.mark.parametrize("kind", ["dist-info", "egg-info"])
def test_a_package_in_a_folder_is_found(kind, names, tmp_path):
    info = tmp_path / f"own_package-1.0.{kind}"
    info.mkdir()
    (info / ("METADATA" if kind == "dist-info" else "PKG-INFO")).write_text(METADATA)
    assert names(tmp_path) == []
    (info / "entry_points.txt").write_text(POINTS)
    assert names(tmp_path) == ["own"]


def test_a_package_in_an_archive_is_found(names, tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("own_package-1.0.dist-info/METADATA", METADATA)
        archive.writestr("own_package-1.0.dist-info/entry_points.txt", POINTS)
    assert names(tmp_path / "all.zip") == ["own"]


def test_a_package_of_another_importer_is_found(names, monkeypatch, tmp_path):
    importer = SimpleNamespace(find_distributions=lambda context: (), find_spec=lambda *names: None)
    monkeypatch.setattr(sys, "meta_path", [importer, *sys.meta_path])
    looked = []
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: looked.append(group) or [])
    assert names(tmp_path) == [] and looked == [GROUP]
