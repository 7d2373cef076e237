"""Data sets of findings with boxes, on files of the published form that are made here."""

import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from taken import Taken

from medground.boxes import iou
from medground.datasets import challenges, chexlocalize, class_boxes, coco_phrases, nih_boxes, vindr_cxr
from medground.errors import BadRecord, MedgroundError
from medground.grounding import formats
from medground.records import Grounding, Phrase, ScoredBox

VINDR = "image_id,rad_id,class_name,x_min,y_min,x_max,y_max\n"
NIH = "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"
RSNA = "patientId,x,y,width,height,Target\n"
SIIM = "ImageId, EncodedPixels\n"


def table(text):
    return io.BytesIO(text.encode())


def as_json(value):
    return io.BytesIO(json.dumps(value).encode())


def packed(mask):
    """COCO's packed run lengths of a mask, by pycocotools."""
    rle = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    return {
        "size": [*mask.shape],
        "counts": rle.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode(),
    }


def square(height, width, box):
    mask = np.zeros((height, width), bool)
    x1, y1, x2, y2 = box
    mask[y1:y2, x1:x2] = True
    return mask


# VinDr-CXR


def test_the_boxes_of_three_readers_are_joined_or_kept():
    rows = VINDR + (
        "a,R1,Nodule/Mass,100,100,200,200\na,R2,Nodule/Mass,110,110,210,210\na,R3,Nodule/Mass,800,800,900,900\n"
        "b,R1,No finding,,,,\n"
    )
    [joined] = vindr_cxr.read(table(rows))
    assert (joined.text, joined.path) == ("lung nodule or mass", "a.dicom")
    assert joined.boxes == [(105.0, 105.0, 205.0, 205.0), (800.0, 800.0, 900.0, 900.0)]
    kept = list(vindr_cxr.read(table(rows), readers="keep"))
    assert [(each.extra["reader"], len(each.boxes)) for each in kept] == [("R1", 1), ("R2", 1), ("R3", 1)]
    assert len({each.phrase_id for each in kept}) == 3


@pytest.mark.parametrize(
    "header",
    [
        "image_id,rad_ID,class_name,x_min,y_min,x_max,y_max\n",
        "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max\n",
        "image_id,class_name,x_min,y_min,x_max,y_max\n",
    ],
)
def test_each_published_header_of_vindr_is_read(header):
    cells = {"image_id": "a", "rad_id": "R1", "rad_ID": "R1", "class_name": "Pneumothorax", "class_id": "12"}
    cells |= {"x_min": "1", "y_min": "2", "x_max": "30", "y_max": "40"}
    row = ",".join(cells[name] for name in header.strip().split(","))
    [phrase] = vindr_cxr.read(table(header + row + "\n"))
    assert (phrase.text, phrase.boxes) == ("pneumothorax", [(1.0, 2.0, 30.0, 40.0)])


corner = st.integers(0, 20)
box = st.tuples(corner, corner, st.integers(1, 20), st.integers(1, 20)).map(
    lambda b: (float(b[0]), float(b[1]), float(b[0] + b[2]), float(b[1] + b[3]))
)


@pytest.mark.slow
@given(st.lists(box, max_size=6))
def test_joined_boxes_are_means_of_groups_that_hold_each_box_once(found):
    joined = vindr_cxr.fuse(found)
    assert joined == slow_fuse(found)
    assert len(joined) <= len(found)


def slow_fuse(found):
    groups = []
    for each in found:
        overlaps = [
            float(iou(np.array([each]), np.array([np.mean(group, axis=0)]))[0, 0]) for group in groups
        ]
        best = max(range(len(groups)), key=overlaps.__getitem__, default=None)
        if best is not None and overlaps[best] > 0.1:
            groups[best].append(each)
        else:
            groups.append([each])
    return [tuple(round(float(value), 1) for value in np.mean(group, axis=0)) for group in groups]


def test_a_side_needs_the_size_of_the_image():
    rows = VINDR + "a,R1,Pleural effusion,100,100,200,200\n"
    with pytest.raises(MedgroundError, match="--image-sizes"):
        list(vindr_cxr.read(table(rows), sides=True))
    [phrase] = vindr_cxr.read(table(rows), sides=True, sizes={"a": (1000, 800)})
    assert (phrase.text, phrase.width, phrase.extra["side"]) == ("right pleural effusion", 1000, "right")


# NIH


def test_nihs_list_of_boxes_is_read_as_it_is():
    rows = (
        NIH
        + "00013118_008.png,Atelectasis,225.1,547.0,86.8,79.2,,,\n00014716_007.png,Infiltrate,0,0,10,10,,,\n"
    )
    first, second = nih_boxes.read_nih(table(rows))
    assert (first.image_id, first.subject_id, first.path) == ("00013118_008", "00013118", "00013118_008.png")
    assert first.boxes == [(225.1, 547.0, 311.9, 626.2)]
    assert (first.width, second.text) == (1024, "lung infiltrate")


def test_chestx_det_states_what_is_absent():
    listed = [
        {"file_name": "00000042_006.png", "syms": ["Fibrosis", "Effusion", "Effusion"],
         "boxes": [[632, 721, 909, 969], [100, 700, 400, 900], [650, 700, 900, 900]]},
        {"file_name": "36199.png", "syms": [], "boxes": []},
    ]  # fmt: skip
    phrases = list(nih_boxes.read_chestx_det(as_json(listed), sides=True, absent=True))
    assert [(each.image_id, each.text, len(each.boxes)) for each in phrases] == [
        ("00000042_006", "left lung fibrosis", 1),
        ("00000042_006", "right pleural effusion", 1),
        ("00000042_006", "left pleural effusion", 1),
        ("36199", "lung fibrosis", 0),
        ("36199", "pleural effusion", 0),
    ]
    assert [each.subject_id for each in phrases] == ["00000042"] * 3 + [None] * 2


# RSNA and SIIM


def test_rsna_has_a_row_for_each_box():
    rows = RSNA + "p1,264.0,152.0,213.0,379.0,1\np1,562.0,152.0,256.0,453.0,1\np2,,,,,0\n"
    first, second = challenges.read_rsna(table(rows), absent=True)
    assert first.boxes == [(264.0, 152.0, 477.0, 531.0), (562.0, 152.0, 818.0, 605.0)]
    assert (first.path, first.text) == ("p1.dcm", "lung opacity")
    assert (second.image_id, second.boxes) == ("p2", [])


def gaps(mask):
    """SIIM's run lengths of a mask, pixel by pixel: gaps from the end of the last run, column by column."""
    numbers, gap, run = [], 0, 0
    for pixel in mask.T.ravel().tolist():
        if pixel:
            run += 1
        else:
            if run:
                numbers += [gap, run]
                gap, run = 0, 0
            gap += 1
    return " ".join(map(str, numbers + ([gap, run] if run else [])))


def test_siims_masks_become_a_box_around_each_piece():
    one, two = square(1024, 1024, (100, 200, 140, 260)), square(1024, 1024, (700, 100, 720, 190))
    rows = SIIM + f"a, {gaps(one | two)}\nb, -1\nc,{gaps(one)}\nc,{gaps(two)}\n"
    first, second, third = challenges.read_siim(table(rows), absent=True)
    assert first.boxes == [(100.0, 200.0, 140.0, 260.0), (700.0, 100.0, 720.0, 190.0)]
    assert (second.image_id, second.boxes) == ("b", [])
    assert (third.image_id, third.boxes) == ("c", first.boxes)


# CheXlocalize


def test_chexlocalizes_masks_become_boxes_of_frontal_images(caplog):
    held = {
        "patient64622_study1_view1_frontal": {"Edema": packed(square(40, 60, (5, 6, 20, 30)))},
        "patient64623_study1_view1_frontal": {"Pleural Effusion": packed(square(40, 60, (40, 6, 50, 30)))},
        "patient64623_study1_view2_lateral": {"Edema": packed(square(40, 60, (5, 6, 20, 30)))},
    }
    first, second = chexlocalize.read(as_json(held), sides=True)
    assert (first.boxes, first.path) == ([(5.0, 6.0, 20.0, 30.0)], "patient64622/study1/view1_frontal.jpg")
    assert (second.text, second.subject_id, second.width) == ("left pleural effusion", "patient64623", 60)
    assert "1 lateral images, left out" in caplog.text


# COCO


def coco_file():
    return {
        "images": [
            {"id": 0, "file_name": "x/a.png", "width": 100, "height": 80},
            {"id": "7", "file_name": "b.png", "width": 50, "height": 50},
        ],
        "categories": [{"id": 1, "name": "Mass"}],
        "annotations": [{"image_id": 0, "category_id": 1, "bbox": [10, 20, 30, 40]}],
    }  # fmt: skip


def test_coco_is_joined_by_its_ids():
    [phrase] = coco_phrases.read(as_json(coco_file()))
    assert (phrase.image_id, phrase.path, phrase.boxes) == ("a", "x/a.png", [(10.0, 20.0, 40.0, 60.0)])
    assert [len(each.boxes) for each in coco_phrases.read(as_json(coco_file()), absent=True)] == [1, 0]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"file_name": "y/a.png"}, "another file than in an earlier row of this image"),
        ({"file_name": "x/a.png", "width": 99}, "another size than in an earlier row of this image"),
    ],
)
def test_two_images_of_one_name_are_not_mixed(change, problem):
    held = coco_file()
    held["images"][1] |= {"height": 80, "width": 100} | change
    with pytest.raises(MedgroundError, match=rf"images\[1\]: {problem}"):
        list(coco_phrases.read(as_json(held)))


def test_the_phrases_of_ground_come_back_from_coco():
    """Two sides of one category are two phrases, and absent ones are kept."""
    boxes = {"right effusion": [(1, 2, 30, 40)], "left effusion": [(60, 2, 90, 40)], "no effusion": []}
    same = {"image_id": "a", "path": "x/a.png", "width": 100, "height": 80}
    answers = []
    for number, (text, found) in enumerate(boxes.items()):
        name = {"phrase_id": f"a|{number}", "text": text}
        given = Phrase(**same, **name)
        scored = [ScoredBox(box=each, score=0.5) for each in found]
        keys = {"image_id": "a", "present": 0.5, "model": "m", "extra": {"category": "Effusion"}}
        answers.append((given, Grounding(**name, **keys, boxes=scored)))
    stream = io.BytesIO()
    formats.write_coco(stream, answers)
    stream.seek(0)
    got = list(coco_phrases.read(stream, sides=True))
    assert {each.text: each.boxes for each in got} == boxes
    assert [(each.phrase_id, each.category) for each in got] == [(f"a|{n}", "Effusion") for n in range(3)]


# The table of phrases


def test_a_table_of_ones_own_replaces_the_words(tmp_path):
    own = tmp_path / "own.toml"
    own.write_text('"infiltrate" = "{side} sided shadow"\n')
    [phrase] = nih_boxes.read_nih(
        table(NIH + "00000001_000.png,Infiltrate,600,10,100,100,,,\n"), templates=own, sides=True
    )
    assert phrase.text == "left sided shadow"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = ", "not TOML"),
        ('"Mass" = 3\n', "expected a phrase"),
        ('"Mass" = "{zone} mass"\n', "the only placeholder"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path, text, message):
    (tmp_path / "own.toml").write_text(text)
    with pytest.raises(MedgroundError, match=message):
        class_boxes.read_templates(tmp_path / "own.toml")


def test_every_class_of_the_published_files_has_a_phrase():
    classes = (
        "Aortic enlargement;Atelectasis;Calcification;Cardiomegaly;Clavicle fracture;"
        "Consolidation;Edema;Emphysema;Enlarged PA;ILD;Infiltration;Lung Opacity;"
        "Lung cavity;Lung cyst;Mediastinal shift;Nodule/Mass;Pleural effusion;"
        "Pleural thickening;Pneumothorax;Pulmonary fibrosis;Rib fracture;Other lesion;"
        "Effusion;Infiltrate;Mass;Nodule;Pneumonia;Diffuse Nodule;Fibrosis;Fracture;"
        "Enlarged Cardiomediastinum;Lung Lesion;Airspace Opacity;Support Devices"
    )
    table = class_boxes.read_templates(class_boxes.TABLE)
    assert {each.casefold() for each in classes.split(";")} <= table.keys()


# Bad rows


BAD = [
    (vindr_cxr.read, VINDR, "a,R1,Mass,,,,\n", "a,R1,Mass,1,1,9,9\n", "x_min: a finding without a box"),
    (vindr_cxr.read, VINDR, "a,R1,Mass,1,1,x,9\n", "a,R1,Mass,1,1,9,9\n", "x_max: expected a number"),
    (vindr_cxr.read, VINDR, "a,R1,Mass,9,1,1,9\n", "a,R1,Mass,1,1,9,9\n", "this box has no area"),
    (vindr_cxr.read, VINDR, ",R1,Mass,9,1,1,9\n", "a,R1,Mass,1,1,9,9\n", "image_id: this cell is empty"),
    (nih_boxes.read_nih, NIH, "a.png,Mass,1100,0,5,5,,,\n", "a.png,Mass,1,1,9,9,,,\n", "outside its image"),
    (nih_boxes.read_nih, NIH, "a.png,Mass,1,1,nan,9,,,\n", "a.png,Mass,1,1,9,9,,,\n", "w: expected a finite"),
    (challenges.read_rsna, RSNA, "a,1,1,9,9,2\n", "a,1,1,9,9,1\n", "Target: expected 0 or 1"),
    (challenges.read_rsna, RSNA, "a,1,1,,9,1\n", "a,1,1,9,9,1\n", "width: expected a number"),
    (challenges.read_siim, SIIM, "a,1 2 3\n", "a,5 5\n", "EncodedPixels: expected pairs"),
    (challenges.read_siim, SIIM, "a,1 99999999\n", "a,5 5\n", "EncodedPixels: expected pairs"),
    (challenges.read_siim, SIIM, "a,one two\n", "a,5 5\n", "EncodedPixels: expected pairs"),
    (challenges.read_siim, SIIM, "a,5 0\n", "a,5 5\n", "an empty mask"),
]  # fmt: skip


@pytest.mark.parametrize(("read", "header", "bad", "good", "message"), BAD)
def test_a_bad_row_is_named_and_the_others_are_read(read, header, bad, good, message):
    taken = Taken()
    found = list(read(table(header + bad + good), taken))
    assert len(found) == 1
    [(line, said)] = taken
    assert (line, said.startswith("<stdin>:2: ")) == (bad.encode(), True) and message in said
    with pytest.raises(BadRecord, match=message):
        list(read(table(header + bad + good)))


BAD_ITEMS = [
    ({"file_name": "a.png", "syms": ["Mass"], "boxes": []}, "boxes: expected one box"),
    ({"file_name": "a.png", "syms": [3], "boxes": [[1, 1, 2, 2]]}, "syms: expected an array"),
    ({"file_name": "a.png", "syms": ["Mass"], "boxes": [[1, 1, 2]]}, "boxes[0]: expected an array of 4"),
    ({"file_name": "a.png", "syms": ["Mass"], "boxes": [[2, 1, 1, 2]]}, "boxes[0]: this box has no area"),
    ({"file_name": "", "syms": [], "boxes": []}, "file_name: expected the name"),
    ("a.png", "file_name: expected the name"),
]


@pytest.mark.parametrize(("item", "message"), BAD_ITEMS)
def test_a_bad_image_of_chestx_det_is_named(item, message):
    taken = Taken()
    good = {"file_name": "b.png", "syms": ["Mass"], "boxes": [[1, 1, 9, 9]]}
    assert len(list(nih_boxes.read_chestx_det(as_json([item, good]), taken))) == 1
    assert taken[0][1].startswith("<stdin>: [0]: ") and message in taken[0][1]


@pytest.mark.parametrize(
    ("name", "masks", "message"),
    [
        ("p1_frontal", {}, "expected a name like"),
        ("patient1_study1_view1_frontal", [], "expected an object of masks"),
        (
            "patient1_study1_view1_frontal",
            {"Edema": {"size": [4, 4], "counts": "zz"}},
            "Edema: expected a size",
        ),
        (
            "patient1_study1_view1_frontal",
            {"Edema": {"size": [10**6, 10**6], "counts": "0"}},
            "Edema: expected a size",
        ),
        ("patient1_study1_view1_frontal", {"Edema": None}, "Edema: expected a size"),
    ],
)
def test_a_bad_mask_of_chexlocalize_is_named(name, masks, message):
    taken = Taken()
    good = {"patient9_study1_view1_frontal": {"Edema": packed(square(40, 60, (5, 6, 20, 30)))}}
    assert len(list(chexlocalize.read(as_json({name: masks} | good), taken))) == 1
    assert message in taken[0][1]


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("annotations", {"image_id": 5}, "annotations[0]: image_id: no image"),
        ("annotations", {"category_id": [1]}, "annotations[0]: category_id: expected a number or a text"),
        ("annotations", {"bbox": [1, 2, None, 3]}, "annotations[0]: bbox[2]: expected a number"),
        ("images", {"width": 0}, "images[0]: width: expected a number of pixels"),
        ("images", {"file_name": 3}, "images[0]: file_name: expected the name"),
    ],
)
def test_a_bad_item_of_coco_is_named(part, change, message):
    held = coco_file()
    held["annotations"].append({"image_id": "7", "category_id": 1, "bbox": [1, 1, 5, 5]})
    held[part][0] = held[part][0] | change
    taken = Taken()
    assert len(list(coco_phrases.read(as_json(held), taken))) == 1
    assert message in taken[0][1]


@pytest.mark.parametrize(
    ("read", "content"),
    [
        (nih_boxes.read_chestx_det, b"{}"),
        (nih_boxes.read_chestx_det, b"[{"),
        (chexlocalize.read, b"[]"),
        (coco_phrases.read, b"[]"),
        (vindr_cxr.read, b"a,b\n1,2\n"),
    ],
)
def test_another_file_is_refused(read, content):
    with pytest.raises(MedgroundError):
        list(read(io.BytesIO(content)))
