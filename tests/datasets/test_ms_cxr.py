import io
import json

import pytest
from ms_cxr_files import HEADER, PATH, ROWS, coco, table
from taken import Taken

from medground.datasets import ms_cxr
from medground.errors import BadRecord, MedgroundError


def as_json(value):
    return io.BytesIO(json.dumps(value, indent=1).encode())


def test_rows_of_one_phrase_become_its_boxes():
    first, second, third = ms_cxr.read(table())
    assert first.boxes == [(100, 200, 400, 600), (1500, 200, 1800, 600)]
    assert (first.image_id, first.text, first.category) == ("i1", "large right pneumothorax", "Pneumothorax")
    assert (first.width, first.height, first.split) == (2000, 1000, "train")
    assert (second.text, third.text) == ('hazy, "batwing" edema', "edema")
    assert [each.phrase_id for each in (first, second, third)] == ["i1|1", "i2|0", "i1|0"]


def test_patient_and_study_come_from_the_path():
    first = next(ms_cxr.read(table()))
    assert (first.subject_id, first.extra["study_id"]) == ("p10032725", "s50331901")


def test_the_first_version_has_no_split():
    assert {each.split for each in ms_cxr.read(table(split=False))} == {None}


def test_patient_and_study_columns_win_where_they_are_there():
    text = f"{HEADER},subject_id,study_id,site\ni1,Edema,edema,x.jpg,1,2,3,4,100,100,10000001,50000001,A\n"
    [phrase] = ms_cxr.read(io.BytesIO(text.encode()))
    assert phrase.subject_id == "p10000001"
    assert phrase.extra == {"study_id": "s50000001", "site": "A"}


def test_json_gives_the_same_phrases_as_the_table():
    assert list(ms_cxr.read(as_json(coco()))) == list(ms_cxr.read(table()))


def test_phrase_ids_do_not_hang_on_the_order_of_the_file():
    def ids(rows):
        return {(each.image_id, each.text): each.phrase_id for each in ms_cxr.read(as_json(coco(rows)))}

    assert ids(ROWS) == ids(ROWS[::-1])


def test_boxes_are_cut_to_the_image_and_kept_once(caplog):
    rows = [
        ("i1", "Edema", "edema", -10, 900, 100, 200, "train"),
        ("i1", "Edema", "edema", -10, 900, 100, 200, "train"),
    ]
    [phrase] = ms_cxr.read(table(rows))
    assert phrase.boxes == [(0, 900, 90, 1000)]
    assert "2 boxes beyond the border of their image" in caplog.text
    assert "1 duplicate boxes" in caplog.text


@pytest.mark.parametrize(
    "box, problem",
    [
        ((1, 2, 0, 4), "w: this box has no area"),
        ((1, 2, 3, -4), "w: this box has no area"),
        ((3000, 2, 3, 4), "x: this box lies outside its image"),
        (("x", 2, 3, 4), "x: expected a number"),
        (("nan", 2, 3, 4), "x: expected a finite number"),
    ],
)
def test_a_phrase_with_a_bad_box_is_rejected_whole(box, problem):
    taken = Taken()
    rows = [*ROWS, ("i1", "Pneumothorax", "large right pneumothorax", *box, "train")]
    assert len(list(ms_cxr.read(table(rows), taken))) == 2
    [(raw, message)] = taken
    assert raw.count(b"\n") == 3
    assert message == f"<stdin>:6: {problem}"


@pytest.mark.parametrize(
    "change, problem",
    [
        ({"image_id": 99}, "image_id: refers to nothing in the file"),
        ({"category_id": None}, "category_id: refers to nothing in the file"),
        ({"bbox": [1, 2, 3]}, "bbox: expected an array of 4"),
        ({"label_text": ""}, "label_text: expected a text"),
        ({"bbox": [1, 2, "x", 4]}, "bbox[2]: expected a number"),
    ],
)
def test_a_bad_annotation_is_named(change, problem):
    value = coco()
    value["annotations"][2] |= change
    with pytest.raises(BadRecord) as caught:
        list(ms_cxr.read(as_json(value)))
    assert str(caught.value) == f"<stdin>: annotations[2]: {problem}"


def test_another_json_is_refused():
    with pytest.raises(MedgroundError, match="is this MS-CXR"):
        list(ms_cxr.read(as_json({"images": []})))
    with pytest.raises(MedgroundError, match="not JSON"):
        list(ms_cxr.read(io.BytesIO(b"{oops")))


def test_another_table_is_refused():
    with pytest.raises(MedgroundError, match=r"no column 'category_name'; is this MS_CXR"):
        list(ms_cxr.read(io.BytesIO(b"dicom_id,x\n1,2\n")))


@pytest.mark.parametrize(
    "part, key, value, problem",
    [
        ("images", "path", 3, "annotations[0]: path: expected a string"),
        ("images", "split", 3, "annotations[0]: split: expected a string"),
        ("annotations", "split", 3, "annotations[0]: split: expected a string"),
        ("categories", "name", None, "annotations[0]: category_id: refers to a category without a name"),
        ("categories", "name", 3, "annotations[0]: category_id: refers to a category without a name"),
    ],
)
def test_json_with_another_kind_of_value_names_its_place(part, key, value, problem):
    content = coco()
    content[part][0][key] = value
    if part == "images":
        content["annotations"][0].pop("split")
    with pytest.raises(BadRecord) as raised:
        list(ms_cxr.read(as_json(content)))
    assert str(raised.value) == f"<stdin>: {problem}"


def test_a_phrase_of_two_splits_is_refused_at_the_row_that_disagrees():
    rows = [*ROWS, ("i1", "Pneumothorax", "large right pneumothorax", 9, 9, 9, 9, "test")]
    taken = Taken()
    assert len(list(ms_cxr.read(table(rows), taken))) == 2
    [(_, message)] = taken
    assert message == "<stdin>:6: split: differs from the split in an earlier row of the same phrase"
    rows[-1] = (*rows[-1][:-1], "")
    assert next(ms_cxr.read(table(rows))).split == "train"


@pytest.mark.parametrize("turned", ["table", "json"])
def test_paths_with_backslashes_are_read_as_what_they_mean(turned, caplog):
    source = table() if turned == "table" else as_json(coco())
    sign = b"\\" if turned == "table" else rb"\\"
    content = source.getvalue()
    for name in (b"i1", b"i2"):
        path = PATH.format(name.decode()).encode()
        content = content.replace(path, path.replace(b"/", sign))
    assert b"files/" not in content
    assert list(ms_cxr.read(io.BytesIO(content))) == list(ms_cxr.read(table()))
    assert "3 paths with backslashes" in caplog.text


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("i1,Edema,edema,{0},9,2,3,4,200,100,", "image_width: another size"),
        ("i1,Mass,mass,{0},9,2,3,4,100,101,", "image_width: another size"),
        ("i1,Mass,mass,{0},9,2,3,4,100,100,10000002", "subject_id: another patient"),
        ("i1,Mass,mass,files/p10/p10000002/s5/i1.jpg,9,2,3,4,100,100,", "subject_id: another patient"),
        ("i1,Mass,mass,{0},9,2,3,4,100.0,100,p10000001", None),
        ("i1,Mass,mass,x.jpg,9,2,3,4,100,100,", None),
    ],
)
def test_an_image_of_two_sizes_or_patients_is_refused(row, problem):
    path = "files/p10/p10000001/s5/i1.jpg"
    text = f"{HEADER},subject_id\ni1,Edema,edema,{path},1,2,3,4,100,100,\n{row.format(path)}\n"
    if problem is None:
        assert len(list(ms_cxr.read(io.BytesIO(text.encode())))) == 2
        return
    with pytest.raises(MedgroundError, match=f":3: {problem} than in an earlier row of this image"):
        list(ms_cxr.read(io.BytesIO(text.encode())))
