"""Graphs of exports from strangers: only XML as OpenVINO writes it, of known operations, reaches OpenVINO."""

import json
import shutil

import pytest
from click.testing import CliRunner
from PIL import Image

from medground import checkpoints, model_dir, shipped
from medground.cli.main import cli
from medground.errors import MedgroundError
from medground.models import graph_files, graphs

GRAPHS = sorted([*shipped.GROUNDER.glob("*.xml"), *shipped.VIEW.parent.glob("*.xml")])
WHOLE = shipped.GROUNDER / "phrases.xml"
LAUGHS = '<!DOCTYPE net [<!ENTITY a "ha">' + "".join(
    f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True)
) + "]>\n"  # fmt: skip
PROLOG = '<?xml version="1.0"?>\n'
FORM, LAYER, OPERATION = (
    "not a graph as medground export",
    "no numbered operation set",
    "the operation {} is not",
)


def after_prolog(text):
    return lambda graph: graph.replace(PROLOG, PROLOG + text)


def replaced(old, new):
    return lambda graph: graph.replace(old, new, 1)


FIRST = '<layer id="0" name="patches" type="Parameter" version="opset1">'
HOSTILE = {
    "billion laughs": (after_prolog(LAUGHS), FORM),
    "a file of the reader": (
        after_prolog('<!DOCTYPE net [<!ENTITY a SYSTEM "file:///etc/passwd">]>\n'),
        FORM,
    ),
    "a document from elsewhere": (after_prolog('<!DOCTYPE net SYSTEM "http://localhost/a.dtd">\n'), FORM),
    "a comment": (after_prolog("<!-- -->\n"), FORM),
    "a character by its number": (replaced("patches", "p&#97;tches"), FORM),
    "another encoding": (replaced('"1.0"?>', '"1.0" encoding="UTF-16"?>'), FORM),
    "a second prolog": (replaced("<net", PROLOG + "<net"), FORM),
    "unparsed text": (replaced("<layers>", "<layers><![CDATA[x]]>"), FORM),
    "a graph in a layer": (replaced("<layers>", "<layers><body></body>"), FORM),
    "a space in a tag": (replaced("<layers>", "<layers>< layer>"), FORM),
    "zeros": (replaced("<layers>", "<layers>\0"), FORM),
    "nothing": (lambda graph: "", FORM),
    "an extension": (
        replaced('type="Parameter" version="opset1"', 'type="Parameter" version="extension"'),
        LAYER,
    ),
    "other quotes": (replaced(FIRST, FIRST.replace('"', "'")), LAYER),
    "another order": (
        replaced(FIRST, FIRST.replace('id="0" name="patches"', 'name="patches" id="0"')),
        LAYER,
    ),
    "a layer in a name": (replaced('"patches"', '"<layer >"'), LAYER),
    "a loop": (replaced('type="Gelu"', 'type="Loop"'), OPERATION.format("Loop")),
    "a state": (replaced('type="Gelu"', 'type="ReadValue"'), OPERATION.format("ReadValue")),
    "an unknown operation": (replaced('type="Gelu"', 'type="Gelu2"'), OPERATION.format("Gelu2")),
}


@pytest.mark.parametrize("path", GRAPHS, ids=lambda path: path.name)
def test_graphs_of_medground_are_read(path):
    graph_files.read(path)


@pytest.mark.parametrize(("change", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_graph_does_not_reach_openvino(change, message, tmp_path):
    whole = WHOLE.read_text()
    assert change(whole) != whole
    path = tmp_path / "phrases.xml"
    path.write_text(change(whole))
    with pytest.raises(MedgroundError, match=message) as found:
        graphs.read(path)
    assert str(found.value).startswith(f"{path}: ") and "\n" not in str(found.value)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_a_graph_in_another_encoding_does_not_reach_openvino(encoding, tmp_path):
    (tmp_path / "phrases.xml").write_bytes(WHOLE.read_text().encode(encoding))
    with pytest.raises(MedgroundError, match=FORM):
        graphs.read(tmp_path / "phrases.xml")


def test_a_large_graph_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(graph_files.limits, "MAX_LINE", 1000)
    shutil.copyfile(WHOLE, tmp_path / "phrases.xml")
    with pytest.raises(MedgroundError, match="more than 1000 bytes"):
        graph_files.read(tmp_path / "phrases.xml")


@pytest.mark.slow
def test_an_export_with_right_digests_and_a_hostile_graph_is_one_message(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(shipped.GROUNDER, folder)
    (folder / "phrases.xml").write_text(HOSTILE["billion laughs"][0](WHOLE.read_text()))
    facts = json.loads((folder / model_dir.EXPORT).read_text())
    facts[model_dir.FILES]["phrases.xml"] = checkpoints.hash_of(folder / "phrases.xml")
    facts[model_dir.DIGEST] = checkpoints.digest_of({k: v for k, v in facts.items() if k != model_dir.DIGEST})
    (folder / model_dir.EXPORT).write_text(json.dumps(facts))
    Image.new("L", (64, 64)).save(tmp_path / "image.png")
    words = ["ground", tmp_path / "image.png", "mass", "--model", folder, "--backend", "exported"]
    result = CliRunner().invoke(cli, list(map(str, words)))
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"phrases.xml: {FORM}" in result.stderr and "Traceback" not in result.stderr
