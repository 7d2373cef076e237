"""Questions of VQA-RAD, SLAKE and MIMIC, and R2Gen's reports, on files of the published form made here."""

import io
import json
import logging

import pytest
from downstream_files import MIMIC_VQA, RAD, REPORTS, SLAKE
from mimic_files import METADATA
from taken import Taken

from medground.datasets import iu_xray, mimic_cxr, questions
from medground.errors import BadRecord, MedgroundError


def as_json(value, name="questions.json"):
    stream = io.BytesIO(json.dumps(value).encode())
    stream.name = name
    return stream


def table(text):
    return io.BytesIO(text.encode())


def test_vqa_rad_strips_answer_types_and_makes_text_of_numbers():
    found = list(questions.read_vqa_rad(as_json([RAD, RAD | {"answer": 3, "phrase_type": "test_freeform"}])))
    assert [(each.answer, each.answer_type, each.split) for each in found] == [
        ("No", "closed", "train"),
        ("3", "closed", "test"),
    ]
    assert (found[0].image_id, found[0].path, found[0].question_id) == ("synpic1", "synpic1.jpg", "1")
    assert "share images" in found[0].split_by


def test_a_share_of_the_training_images_of_vqa_rad_validates_with_all_their_questions():
    entries = [RAD | {"qid": n, "image_name": f"s{n // 2}.jpg"} for n in range(400)]
    entries += [entries[n] | {"phrase_type": "test_para", "qid": f"t{n}"} for n in range(0, 400, 8)]
    found = list(questions.read_vqa_rad(as_json(entries), val_share=0.2, seed=1))
    splits = {}
    for each in found:
        splits.setdefault(each.image_id, set()).add(each.split)
    assert not any({"train", "val"} <= own for own in splits.values())
    assert 25 <= sum("val" in own for own in splits.values()) <= 55
    assert sum(each.split == "test" for each in found) == 50
    assert found[0].split_by.endswith("of the others images 80:20:0, seed 1")
    none = list(questions.read_vqa_rad(as_json(entries), val_share=0))
    assert {each.split for each in none} == {"train", "test"} and none[0].split_by.endswith("share images")


def test_a_warning_says_that_no_image_of_vqa_rad_validates(caplog):
    list(questions.read_vqa_rad(as_json([RAD]), val_share=0))
    assert not caplog.messages
    list(questions.read_vqa_rad(as_json([RAD, RAD | {"qid": 2}]), val_share=1e-6))
    assert caplog.messages == [
        "questions.json: 2 training questions and none of val: give another --split-seed or --val-share"
    ]


def test_ovqa_takes_its_part_from_the_name():
    entry = {key: each for key, each in RAD.items() if key != "phrase_type"} | {"answer": "Left"}
    found = list(questions.read_ovqa(as_json([entry | {"answer_type": "OPEN "}], "valset.json")))
    assert [(e.image_id, e.path, e.answer, e.answer_type, e.question_type, e.split) for e in found] == [
        ("synpic1", "synpic1.jpg", "Left", "open", "ABN", "val")
    ]
    assert next(questions.read_ovqa(as_json([entry], "a.json"), part="test")).split == "test"
    with pytest.raises(MedgroundError, match="give --part"):
        list(questions.read_ovqa(as_json([entry], "a.json")))


@pytest.mark.parametrize(
    "changed, problem",
    [
        ({"answer": None}, "answer: expected a text or a number"),
        ({"answer_type": "yes/no"}, "answer_type: expected OPEN or CLOSED"),
        ({"image_name": " "}, "image_name: expected a text or a number"),
    ],
)
def test_a_bad_entry_is_named_and_left_out(changed, problem):
    taken = Taken()
    assert len(list(questions.read_vqa_rad(as_json([RAD | changed, RAD]), taken))) == 1
    assert [message for _, message in taken] == [f"questions.json: [0]: {problem}"]


def test_slake_keeps_english_and_takes_its_part_from_the_name(caplog):
    with caplog.at_level(logging.WARNING):
        entries = [SLAKE, SLAKE | {"q_lang": "zh"}, SLAKE | {"qid": 8}]
        found = list(questions.read_slake(as_json(entries, "validate.json")))
    assert [(e.question_id, e.answer, e.answer_type, e.split) for e in found] == [
        ("7", "3", "open", "val"),
        ("8", "3", "open", "val"),
    ]
    assert (found[0].image_id, found[0].path) == ("xmlab1", "xmlab1/source.jpg")
    assert "1 questions in other languages, left out" in caplog.text
    with pytest.raises(MedgroundError, match="give --part"):
        list(questions.read_slake(as_json([SLAKE], "x.json")))


def test_mimic_questions_get_the_first_frontal_image_of_their_study(caplog):
    rows = "0,50414267,10000032,,presence,is there edema?,yes,train\n"
    rows += "1,50414267.0,10000032,50000001,difference,what changed?,nothing has changed,val\n"
    rows += "2,999,10000032,,view,which view?,PA view,test\n"
    images = {each.image_id: each for each in mimic_cxr.read_images(table(METADATA))}
    with caplog.at_level(logging.WARNING):
        found = list(questions.read_mimic(table(MIMIC_VQA + rows), images=images))
    assert [(e.question_id, e.study_id, e.image_id, e.answer_type, e.split) for e in found] == [
        ("s50414267|0", "s50414267", "02aa804e-bde0afdd", "closed", "train"),
        ("s50414267|1", "s50414267", "02aa804e-bde0afdd", "open", "val"),
    ]
    assert found[1].extra == {"ref_id": "s50000001"} and not found[0].extra
    assert "1 questions about studies without a frontal image, left out" in caplog.text


def test_reports_of_r2gen_keep_their_images_and_their_split():
    held = REPORTS | {"val": [{"id": 50414267, "study_id": 50414267, "subject_id": 10000032}]}
    held["val"][0] |= {"report": "Edema.", "image_path": ["p10/p10000032/s50414267/a.jpg"], "split": "val"}
    found = list(iu_xray.read(as_json(held)))
    assert [(e.study_id, e.subject_id, e.text, e.extra["split"]) for e in found] == [
        ("CXR1", None, "Clear.", "train"),
        ("s50414267", "p10000032", "Edema.", "val"),
    ]
    assert found[0].extra["image_paths"] == ["CXR1/0.png", "CXR1/1.png"]


@pytest.mark.parametrize(
    "item, problem",
    [
        ({"report": " "}, "report: expected a text"),
        ({"image_path": []}, "image_path: expected an array of files"),
        ({"split": "test"}, "split: differs from the part that has this item"),
        ({"id": None}, "id: expected the name of a study"),
    ],
)
def test_a_bad_report_is_named(item, problem):
    with pytest.raises(BadRecord, match=rf"questions.json: train\[0\]: {problem}"):
        list(iu_xray.read(as_json({"train": [REPORTS["train"][0] | item]})))


@pytest.mark.parametrize(
    "held, problem",
    [
        ([], "expected an object with train, val and test"),
        ({"other": []}, "no key train, val or test"),
        (REPORTS | {"test": REPORTS["train"]}, "a study that another part has too"),
    ],
)
def test_a_file_that_is_no_annotation_is_refused(held, problem):
    with pytest.raises(MedgroundError, match=problem):
        list(iu_xray.read(as_json(held)))
