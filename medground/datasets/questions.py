"""Visual questions: VQA-RAD, SLAKE, OVQA and MIMIC-CXR-VQA.

VQA-RAD (Lau et al., Scientific Data 2018)   `VQA_RAD Dataset Public.json`, a list of 2,248 entries about 315
    images. `phrase_type` test_freeform and test_para are the test part. Images are shared between the parts.
SLAKE (Liu et al., ISBI 2021)   train.json, validate.json, test.json. Only questions in English are taken.
OVQA (Huang et al., 2022)   trainset.json, valset.json, testset.json: VQA-RAD's keys without `phrase_type`.
MIMIC   mimic_pair_questions.csv (Medical-Diff-VQA, Hu et al., KDD 2023; mimic_all.csv has no questions):
    `study_id, subject_id, ref_id, question_type, question, answer, split`. The image is the study's first
    frontal one. A question about a difference names the earlier study in `ref_id`.

A true answer may be a number; an answer type may have blanks around it and any letter case.
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from medground.datasets import mimic_cxr
from medground.datasets.covidx import part_of
from medground.datasets.drawn_splits import Drawn
from medground.datasets.json_items import JsonItem, items
from medground.datasets.sources import Row, Source, TakeBad, name_of, refuse, rows, sift, warn_of
from medground.errors import BadRecord
from medground.published import PARTS_SHARE_IMAGES
from medground.records import Anatomy, Question

TYPES = ("closed", "open")
MIMIC = {"study_id", "subject_id", "question_type", "question", "answer", "split"}


def read_vqa_rad(
    source: Source, take: TakeBad = refuse, val_share: float = 0.1, seed: int = 0
) -> Iterator[Question]:
    """Yield the questions of VQA-RAD, each in the phrasing of its key `question`.

    A share of the images of the training part validates, with all their training questions.
    """
    inside = Drawn((1 - val_share, val_share, 0.0), seed, unit="images")
    parts = Counter[str | None]()
    listed = items(source, "VQA_RAD Dataset Public.json")
    for question in sift(listed, lambda item: _of_vqa_rad(item, inside), take):
        parts[question.split] += 1
        yield question
    if val_share and parts["train"] and not parts["val"]:
        problem = "training questions and none of val: give another --split-seed or --val-share"
        warn_of(Counter({problem: parts["train"]}), name_of(source))


def _of_vqa_rad(item: JsonItem, inside: Drawn) -> Question:
    value = _object(item)
    name, phrasing = _text(value, "image_name"), _text(value, "phrase_type")
    image = name.rpartition(".")[0] or name
    rule = f"VQA-RAD phrase_type; {PARTS_SHARE_IMAGES}"
    return Question(
        image_id=image,
        question_id=_text(value, "qid"),
        path=name,
        text=_text(value, "question"),
        answer=_text(value, "answer"),
        answer_type=_answer_type(value),
        question_type=_maybe(value, "question_type"),
        split="test" if phrasing.startswith("test") else inside.of(image),
        split_by=f"{rule}; of the others {inside.name}" if inside.shares[1] else rule,
        extra={"organ": organ} if (organ := _maybe(value, "image_organ")) else {},
    )


def read_ovqa(source: Source, take: TakeBad = refuse, part: str | None = None) -> Iterator[Question]:
    """Yield the questions of OVQA; the part of the split is `part`, or the file's name."""
    found = part_of(source, part, ("train", "val", "test"))
    return sift(items(source, "OVQA"), lambda item: _of_ovqa(item, found), take)


def _of_ovqa(item: JsonItem, split: str) -> Question:
    value = _object(item)
    name = _text(value, "image_name")
    return Question(
        image_id=name.rpartition(".")[0] or name,
        question_id=_text(value, "qid"),
        path=name,
        text=_text(value, "question"),
        answer=_text(value, "answer"),
        answer_type=_answer_type(value),
        question_type=_maybe(value, "question_type"),
        split=split,
        split_by="OVQA files",
        extra={"organ": organ} if (organ := _maybe(value, "image_organ")) else {},
    )


def read_slake(source: Source, take: TakeBad = refuse, part: str | None = None) -> Iterator[Question]:
    """Yield the questions in English; the part of the split is `part`, or the file's name."""
    found = part_of(source, part, ("train", "validate", "val", "test"))
    split, dirt = "val" if found == "validate" else found, Counter[str]()
    for question in sift(items(source, "SLAKE"), lambda item: _of_slake(item, split), take):
        dirt["questions in other languages, left out"] += question is None
        if question is not None:
            yield question
    warn_of(dirt, name_of(source))


def _of_slake(item: JsonItem, split: str) -> Question | None:
    value = _object(item)
    if _text(value, "q_lang") != "en":
        return None
    name = _text(value, "img_name")
    return Question(
        image_id=name.split("/")[0],
        question_id=_text(value, "qid"),
        path=name,
        text=_text(value, "question"),
        answer=_text(value, "answer"),
        answer_type=_answer_type(value),
        question_type=_maybe(value, "content_type"),
        split=split,
        split_by="SLAKE files",
        extra={key: found for key in ("modality", "location") if (found := _maybe(value, key))},
    )


def read_mimic(
    source: Source, take: TakeBad = refuse, images: Mapping[str, Anatomy] | None = None
) -> Iterator[Question]:
    """Yield the questions; `images` by image_id are those of the metadata of MIMIC-CXR-JPG.

    Questions about studies without a frontal image are left out, with a warning.
    """
    frontal: dict[str, Anatomy] = {}
    for each in (images or {}).values():
        if each.study_id and each.is_frontal:
            frontal.setdefault(each.study_id, each)
    dirt, numbers = Counter[str](), itertools.count()
    table = rows(source, MIMIC, "mimic_pair_questions.csv", take)
    for question in sift(table, lambda row: _of_mimic(row, next(numbers), frontal), take):
        dirt["questions about studies without a frontal image, left out"] += question is None
        if question is not None:
            yield question
    warn_of(dirt, name_of(source))


def _of_mimic(row: Row, number: int, frontal: Mapping[str, Anatomy]) -> Question | None:
    study = mimic_cxr.study_id(row.text("study_id"))
    image = frontal.get(study)
    kind, earlier = row.text("question_type"), row.maybe("ref_id")
    question = {"text": row.text("question"), "answer": row.text("answer")}
    split, subject = row.text("split"), mimic_cxr.subject_id(row.text("subject_id"))
    if image is None:
        return None
    return Question(
        image_id=image.image_id,
        question_id=f"{study}|{number}",
        study_id=study,
        subject_id=subject,
        path=image.path,
        answer_type="closed" if question["answer"].strip().lower() in ("yes", "no") else "open",
        question_type=kind,
        split=split,
        split_by="Medical-Diff-VQA split column",
        extra={"ref_id": mimic_cxr.study_id(earlier)} if earlier and kind == "difference" else {},
        **question,
    )


def _object(item: JsonItem) -> dict[str, Any]:
    if not isinstance(item.value, dict):
        raise BadRecord("expected an object")
    return item.value


def _text(value: Mapping[str, Any], key: str) -> str:
    """Return a text or a number as text without outer blanks; raise BadRecord for anything else."""
    found = _maybe(value, key)
    if found is None:
        raise BadRecord("expected a text or a number", key)
    return found


def _maybe(value: Mapping[str, Any], key: str) -> str | None:
    found = value.get(key)
    if isinstance(found, bool) or not isinstance(found, str | int | float):
        return None
    return str(found).strip() or None


def _answer_type(value: Mapping[str, Any]) -> str:
    found = _text(value, "answer_type").lower()
    if found not in TYPES:
        raise BadRecord("expected OPEN or CLOSED", "answer_type")
    return found
