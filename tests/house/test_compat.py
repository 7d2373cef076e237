import subprocess
import sys

import pytest

from medground.compat import run_file
from medground.errors import MedgroundError

SHOW = """
import sys
from medground.compat_transformers import hide_broken_torchvision
hide_broken_torchvision()
print(repr(sys.modules.get("torchvision", "not looked at")), "torchvision.ops" in sys.modules)
"""


@pytest.fixture
def after_hiding(tmp_path, monkeypatch):
    """Return torchvision's stand-in after `hide_broken_torchvision`, if its package has this `code`."""

    def run(code):
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        (tmp_path / "torchvision").mkdir()
        (tmp_path / "torchvision" / "ops.py").write_text("")
        (tmp_path / "torchvision" / "__init__.py").write_text("import torchvision.ops\n" + code)
        done = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    return run


@pytest.mark.parametrize(
    "code",
    [
        "raise RuntimeError('operator torchvision::nms does not exist')",
        "raise ImportError('undefined symbol')",
        "raise OSError('libcudart.so: cannot open')",
        "None.no_such_attribute",
    ],
)
def test_a_torchvision_that_does_not_import_is_made_invisible(code, after_hiding):
    assert after_hiding(code) == "None False"


def test_a_sound_torchvision_is_left_alone(after_hiding):
    assert after_hiding("").startswith("<module 'torchvision'")


def test_a_file_is_read_without_its_package(tmp_path, monkeypatch):
    (tmp_path / "heavy" / "lists").mkdir(parents=True)
    (tmp_path / "heavy" / "__init__.py").write_text("raise ImportError('takes seconds')")
    (tmp_path / "heavy" / "lists" / "words.py").write_text("WORDS = {'a'}")
    monkeypatch.syspath_prepend(tmp_path)
    assert run_file("heavy", "lists/words.py")["WORDS"] == {"a"}
    assert "heavy" not in sys.modules
    with pytest.raises(MedgroundError, match="no_such_package is not installed: pip install no_such_package"):
        run_file("no_such_package", "words.py")


CONVERTER = """
import logging, sys
logging.root.addHandler(handler := logging.NullHandler())
from medground.compat import import_openvino
openvino = import_openvino()
print(import_openvino() is openvino, "openvino.tools.ovc" in sys.modules, logging.root.handlers == [handler])
print(callable(openvino.convert_model), hasattr(openvino, "no_such_name"))
"""


@pytest.mark.slow
def test_the_converter_of_openvino_is_imported_when_it_is_used():
    pytest.importorskip("openvino")
    done = subprocess.run([sys.executable, "-c", CONVERTER], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False", "True", "True", "False"]
