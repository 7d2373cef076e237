"""Published files with a hostile value in each place: records that can be read again, or one message."""

import copy
import io
import json
import logging

import pytest
from click.testing import CliRunner

from medground import jsonl, registry
from medground.cli.main import cli
from medground.errors import MedgroundError

MARKER = "Zqmark"
ARRAYS = {
    "chestx-det": [{"file_name": "1.png", "syms": ["Mass"], "boxes": [[1, 2, 3, 4]], "polygons": [[[1, 2]]]}],
    "chexlocalize": {"patient64622_study1_view1_frontal": {"Edema": {"size": [4, 4], "counts": "44<"}}},
    "padchest-gr": [
        {
            "ImageID": "a.png", "StudyID": "s",
            "findings": [{"sentence_en": "x", "abnormal": True, "boxes": [[0.1, 0.1, 0.2, 0.2]]}],
        }
    ],
    "coco": {
        "images": [{"id": 1, "file_name": "a.png", "width": 9, "height": 9}],
        "categories": [{"id": 1, "name": "mass"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}],
    },
    "label-studio": [
        {
            "id": 1, "data": {"image": "a.png"},
            "annotations": [
                {
                    "result": [
                        {
                            "type": "rectanglelabels", "original_width": 100, "original_height": 100,
                            "value": {"x": 1, "y": 1, "width": 5, "height": 5, "rectanglelabels": ["m"]},
                        }
                    ]
                }
            ],
        }
    ],
    "vqa-rad": [
        {
            "qid": "1", "image_name": "a.jpg", "phrase_type": "freeform", "question": "q", "answer": "yes",
            "answer_type": "CLOSED", "question_type": "X",
        }
    ],
    "ovqa": [{"qid": 1, "image_name": "a.jpg", "question": "q", "answer": "yes", "answer_type": "CLOSED"}],
    "slake": [
        {
            "qid": 1, "img_name": "x/a.jpg", "question": "q", "answer": "b", "answer_type": "OPEN",
            "q_lang": "en",
        }
    ],
    "iu-xray": {"train": [{"id": "a", "report": "x", "image_path": ["a.png"], "split": "train"}]},
}  # fmt: skip
TABLES = {
    "nih": "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position\n"
    "a_1.png,Mass,0,1,55,M,PA\n",
    "rsna": "patientId,x,y,width,height,Target\na,1,2,30,40,1\n",
    "siim": "ImageId,EncodedPixels\na,1 2 3 4\n",
    "mimic-jpg": "dicom_id,subject_id,study_id,ViewPosition,Rows,Columns\na,1,2,PA,9,9\n",
    "mimic-sectioned": "study,impression,findings\ns1,a,b\n",
    "ms-cxr": "dicom_id,category_name,label_text,path,x,y,w,h,image_width,image_height,split\n"
    "i,Edema,x,p,1,2,3,4,9,9,test\n",
    "vindr-cxr": "image_id,rad_id,class_name,x_min,y_min,x_max,y_max\n1,R1,Cardiomegaly,1,1,5,5\n",
    "nih-boxes": "Image Index,Finding Label,Bbox [x,y,w,h],,,\na_1.png,Mass,1,2,3,4,,,\n",
}
MORE = {"ovqa": {"part": "val"}, "slake": {"part": "val"}, "padchest-gr": {"sizes": {"a": (9, 9)}}}
VALUES = [MARKER, {MARKER: MARKER}, 5, -1, 1.5e308, 10**30, True, None, "", [[MARKER]], "1" * 5000, "nan", []]
CELLS = [MARKER, "-1", "1e999", "nan", "1" * 5000, "9" * 20, "²", "", "0x10", f"{MARKER}\u202e"]


def places(value, path=()):
    """Yield the path of each value inside a value of JSON."""
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


def with_value(value, path, new):
    """Return a copy of a value of JSON with another value in one place."""
    if not path:
        return new
    whole = inside = copy.deepcopy(value)
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = new
    return whole


def read(name, content, folder, caplog):
    """Read a file; every message quotes no value, and every record can be written and read again."""
    path = folder / "train_file"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    said = []
    try:
        found = registry.DATASETS[name].load()(
            path, take=lambda raw, bad: said.append(str(bad)), **MORE.get(name, {})
        )
        for record in found:
            line = jsonl.dumps(record)
            assert [*jsonl.read(io.BytesIO(line), type(record), jsonl.BadLines())] == [record], content
    except MedgroundError as error:
        said.append(str(error))
    assert MARKER.lower() not in "".join((*said, *caplog.messages)).lower(), (content, said)
    return said


@pytest.mark.parametrize("name", ARRAYS)
def test_every_value_of_a_file_of_json_may_be_hostile(name, tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    good = ARRAYS[name]
    for path in places(good):
        for value in VALUES:
            read(name, json.dumps(with_value(good, path, value)), tmp_path, caplog)


@pytest.mark.parametrize("name", TABLES)
def test_every_cell_of_a_table_may_be_hostile(name, tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    header, good, _ = TABLES[name].split("\n")
    assert read(name, TABLES[name], tmp_path, caplog) == []
    cells = good.split(",")
    for place in range(len(cells)):
        for value in CELLS:
            row = ",".join((*cells[:place], f'"{value}"', *cells[place + 1 :]))
            read(name, f"{header}\n{row}\n", tmp_path, caplog)


@pytest.mark.parametrize("name", ARRAYS)
def test_a_deep_file_of_json_is_one_message(name, tmp_path, caplog):
    deep = json.dumps(ARRAYS[name]).replace('"a.png"', "[" * 300 + "]" * 300, 1)
    deep = deep if "[" * 300 in deep else "[" * 300 + "]" * 300
    assert "nested more than 200 levels deep" in read(name, deep, tmp_path, caplog)[0]


CVAT = (
    '<annotations><image name="a.png" width="100" height="90">'
    '<box label="m" xtl="1" ytl="2" xbr="30" ybr="40" rotation="{}"/></image></annotations>'
)


@pytest.mark.parametrize("value", [MARKER, "nan", "1e400", "9" * 5000, "5"])
def test_a_rotation_that_is_no_number_is_one_message(value, tmp_path, caplog):
    assert read("cvat", CVAT.format("0"), tmp_path, caplog) == []
    assert "rotat" in read("cvat", CVAT.format(value), tmp_path, caplog)[0]


@pytest.mark.parametrize("name", TABLES)
def test_two_columns_with_one_name_are_refused(name, tmp_path, caplog):
    header, good, _ = TABLES[name].split("\n")
    first = header.split(",")[0]
    (said,) = read(name, f"{header},{first}\n{good},b\n", tmp_path, caplog)
    assert f"columns 1 and {header.count(',') + 2} have the same name" in said


@pytest.mark.parametrize("option", ["--templates", "--test-list"])
def test_a_hostile_file_of_an_option_is_one_message(option, tmp_path):
    (tmp_path / "given").write_bytes(b"x = " + b"[" * 5000 if option == "--templates" else b"\xff\xfe\n")
    name = "nih-boxes" if option == "--templates" else "nih"
    (tmp_path / "table.csv").write_text(TABLES[name])
    result = CliRunner().invoke(
        cli, ["convert", name, str(tmp_path / "table.csv"), option, str(tmp_path / "given")]
    )
    assert isinstance(result.exception, SystemExit) and result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
