"""A key or an id that is there twice: parsers keep the last one, so what the first one said would be lost."""

import copy
import io
import json
import random
import zipfile

import numpy as np
import pytest
from click.testing import CliRunner

from medground import jsonl, records, strict_json
from medground.anatomy import coco, detector, mask_files
from medground.cli.main import cli
from medground.datasets import chest_imagenome, coco_phrases, mimic_cxr, ms_cxr
from medground.datasets.sources import File
from medground.errors import BadRecord, MedgroundError
from medground.evaluation.inputs import coco_results, heatmap_files
from medground.evaluation.inputs.files import Hashed
from medground.model_dir import CALIBRATION, CONFIG, EXPORT, ModelDir
from medground.models import pretrained

REGION = '{"name": "spine", "box": [1, 2, 3, 4], "score": 1.0}'
TRIPLET = (
    '{"region": null, "finding": "effusion", "existence": "absent", "finding_span": [0, 3], "region_span": '
    'null, "cue": null, "cue_span": null, "region_source": "none", "rule": "stated"}'
)
SENTENCE = '"study_id": "s", "sentence_id": "s|0", "section": "findings", "start": 0, "end": 9'
REPEATED = [
    (records.Report, '{"study_id": "s", "text": "FINDINGS: none", "text": "IMPRESSION: mass"}', "text"),
    (records.Report, '{"study_id": "s", "text" : "a: b", "t\\u0065xt"\t: "b"}', "text"),
    (records.Report, '{"study_id": "s", "text": "a\\u003a b", "text": "b"}', "text"),
    (records.Report, '{"study_id": "s", "text": "a\\":", "text": "b"}', "text"),
    (records.Report, '{"study_id": "s", "text": "a", "site": [{"a": 1}, {"a": 1, "a": 2}]}', "a"),
    (records.Report, '{"study_id": "s", "text": "a", "p10000032": 1, "p10000032": 2}', None),
    (records.Report, '{"study_id": "s", "text": "a", "Jane Doe": 1, "Jane Doe": 2}', None),
    (records.Sentence, f'{{{SENTENCE}, "text": "a: b", "end": 3, "triplets": [{TRIPLET}]}}', "end"),
    (
        records.Sentence,
        f'{{{SENTENCE}, "text": "a", "triplets": [{TRIPLET[:-1]}, "rule": "guessed"}}]}}',
        "rule",
    ),
    (
        records.Anatomy,
        f'{{"image_id": "i", "path": "i", "width": 9, "height": 9, "regions": [{REGION}, '
        '{"name": "spine", "box": [1, 2, 3, 4], "score": 0, "score": 1.0}]}',
        "score",
    ),
    (
        records.Anatomy,
        f'{{"image_id": "i", "path": "i", "width": 9, "height": 9, "regions": [{REGION}, '
        '{"name": "spine", "box": [1, 2, 3, 4]}, {"name": "x", "box": [1, 2, 3, 4], "box": [0, 0, 1, 1]}]}',
        "box",
    ),
    (records.Classification, '{"image_id": "i", "scores": {"mass": 1, "mass": 0}, "model": ""}', "mass"),
]


@pytest.mark.parametrize("read", [jsonl.read, jsonl.scan])
@pytest.mark.parametrize(("kind", "line", "key"), REPEATED)
def test_a_key_that_a_line_has_twice_is_refused(read, kind, line, key):
    stream = io.BytesIO(b"\n" + line.encode() + b"\n")
    stream.name = "in.jsonl"
    message = f"the key '{key}' is there twice" if key else "a key is there twice"
    with pytest.raises(BadRecord) as found:
        list(read(stream, kind, jsonl.BadLines()))
    assert str(found.value) == f"in.jsonl:2: {message}"


def test_the_same_key_in_several_objects_is_read():
    line = b'{"study_id": "s", "text": "a: b \\" : \\\\", "a" : {"a": {"a": ":"}, "b": {"a": "\\u003a"}}}'
    [report] = jsonl.read([line], records.Report, jsonl.BadLines())
    assert report.text == 'a: b " : \\' and report.extra["a"] == {"a": {"a": ":"}, "b": {"a": ":"}}


def nested(chance, depth):
    """Return JSON text of random objects and arrays, and its keys' places."""
    if depth == 0:
        return chance.choice(['":"', '"\\":"', '"\\u003a"', "1.5", "null", '" :"', "[]", "{}"])
    inside = [nested(chance, depth - 1) for _ in range(chance.randrange(1, 4))]
    if chance.random() < 0.4:
        return "[" + ", ".join(inside) + "]"
    space = [chance.choice(["", " ", "\t", "\n"]) for _ in inside]
    return "{" + ", ".join(f'"k{n}"{space[n]}:{each}' for n, each in enumerate(inside)) + "}"


def test_any_text_with_a_key_twice_is_refused_and_others_are_not():
    chance, refused = random.Random(0), 0
    for _ in range(2000):
        text = nested(chance, 3)
        assert strict_json.parse(text.encode()) == strict_json.parse_loose(text.encode()) == json.loads(text)
        twice = text.replace('"k1"', '"k0"', 1)
        if twice == text:
            continue
        refused += 1
        for parse in (strict_json.parse, strict_json.parse_loose):
            with pytest.raises(BadRecord, match="twice"):
                parse(twice.encode())
    assert refused > 500


def test_a_command_names_file_line_and_key(tmp_path):
    (tmp_path / "in.jsonl").write_text(
        '{"study_id": "s1", "text": "Mass."}\n{"study_id": "s2", "study_id": "s3", "text": "x"}\n'
    )
    args = ["parse-reports", str(tmp_path / "in.jsonl")]
    result = CliRunner().invoke(cli, args)
    assert result.exit_code == 1
    assert result.stderr.endswith("in.jsonl:2: the key 'study_id' is there twice\n")
    result = CliRunner().invoke(cli, [*args, "--rejects", str(tmp_path / "bad")])
    assert result.exit_code == 0 and '"s1"' in result.stdout and b'"s3"' in (tmp_path / "bad").read_bytes()


def test_a_key_of_a_config_or_a_graph_that_is_there_twice_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"width": 128, "heads": 4, "width": 256}')
    with pytest.raises(BadRecord, match="the key 'width' is there twice"):
        strict_json.config(tmp_path / "config.json")
    graph = b'{"image_id": "a", "objects": [], "attributes": [], "objects": [{}]}'
    with pytest.raises(BadRecord, match="the key 'objects' is there twice"):
        chest_imagenome.read_graph(File("graph.json", lambda: graph))


@pytest.mark.parametrize("name", [CONFIG, CALIBRATION, EXPORT])
def test_a_key_that_a_file_of_a_model_has_twice_is_named(name, tmp_path):
    (tmp_path / name).write_text('{"digest": "a", "digest": "b"}')
    files = ModelDir(tmp_path)
    read = {CONFIG: files.config, CALIBRATION: files.calibration, EXPORT: files.export}[name]
    with pytest.raises(MedgroundError, match=f"^{tmp_path / name}: the key 'digest' is there twice; "):
        read()


def test_a_config_of_a_detector_with_a_key_twice_is_named(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "d_fine", "model_type": "rt_detr_v2"}')
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(MedgroundError, match=r"config.json: the key 'model_type' is there twice$"):
        detector.load(tmp_path, "cpu")


@pytest.mark.parametrize("load", [pretrained.load_image_encoder, pretrained.load_text_encoder])
def test_a_config_of_an_encoder_with_a_key_twice_is_named(load, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert", "hidden_size": 8, "hidden_size": 16}')
    with pytest.raises(MedgroundError, match=r"config.json: the key 'hidden_size' is there twice$"):
        load(str(tmp_path))


COCO = {
    "images": [{"id": n, "file_name": f"{n}.png", "width": 90, "height": 80} for n in (1, 2)],
    "categories": [{"id": n, "name": f"class {n}"} for n in (1, 2)],
    "annotations": [
        {"id": n, "image_id": n, "category_id": n, "bbox": [1, 2, 3, 4], "label_text": "mass", "score": 0.5}
        for n in (1, 2)
    ],
}


def of_file(read):
    def through(content, path):
        path.write_bytes(content)
        return read(path)

    return through


def as_predictions(content, path):
    stream = io.BytesIO(content)
    stream.name = str(path)
    coco_results.read_coco(Hashed(stream), jsonl.BadLines(), lambda answer: None)


READERS = {
    "masks": of_file(coco.load),
    "phrases": of_file(lambda path: list(coco_phrases.read(path))),
    "ms-cxr": of_file(lambda path: list(ms_cxr.read(path))),
    "predictions": as_predictions,
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("part", COCO)
def test_an_id_that_a_coco_file_has_twice_is_refused_with_both_places(read, part, tmp_path):
    path, given = tmp_path / "coco.json", copy.deepcopy(COCO)
    read(json.dumps(given).encode(), path)
    given[part][1]["id"] = given[part][0]["id"]
    with pytest.raises(MedgroundError) as found:
        read(json.dumps(given).encode(), path)
    assert str(found.value) == f"{path}: {part}[1]: id: the same as of {part}[0]"


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_a_coco_file_with_two_lists_of_images_is_refused(read, tmp_path):
    content = json.dumps(COCO).replace('"categories"', '"images": [], "categories"')
    with pytest.raises(MedgroundError, match="the key 'images' is there twice"):
        read(content.encode(), tmp_path / "coco.json")


def npy(value):
    stream = io.BytesIO()
    np.save(stream, np.full((4, 4), value, np.uint8))
    return stream.getvalue()


READERS_OF_ZIP = {
    "heat maps": lambda path: heatmap_files.opened(path).__enter__(),
    "masks": lambda path: list(mask_files.read(path, (), frozenset({"p1"}))),
    "label maps": lambda path: list(mask_files.read_labels(path, ["1"])),
    "names of masks": mask_files.array_names,
    "reports": lambda path: list(mimic_cxr.read_reports(path)),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("read", READERS_OF_ZIP.values(), ids=READERS_OF_ZIP)
def test_a_member_that_an_archive_has_twice_is_refused(read, tmp_path):
    reports = read is READERS_OF_ZIP["reports"]
    name = "files/p10/p10000032/s50414267.txt" if reports else "p1.npy"
    path = tmp_path / ("a.zip" if reports else "a.npz")
    for times in (1, 2):
        with zipfile.ZipFile(path, "w") as archive:
            for number in range(times):
                archive.writestr(name, b"FINDINGS: Mass." if reports else npy(number))
        if times == 1:
            read(path)
    with pytest.raises(MedgroundError, match=f"^{path}: 2 members have the name {name}; pack it again"):
        read(path)
