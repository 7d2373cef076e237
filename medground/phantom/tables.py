"""Rows, tables and scene graphs of the published formats, made from studies, without touching the disk."""

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from medground.boxes import Letterbox
from medground.phantom.cohort import Study
from medground.phantom.findings import CATEGORY
from medground.records import Box

KINDS = {
    "pneumonia": "disease",
    "endotracheal tube": "tubesandlines",
    "enteric tube": "tubesandlines",
    "picc": "tubesandlines",
    "ij line": "tubesandlines",
    "chest tube": "tubesandlines",
    "cardiac pacer and wires": "device",
    "sternotomy wires": "device",
}
IMAGENOME = {"train": "train", "validate": "valid", "test": "test"}
MS_CXR = {"train": "train", "validate": "val", "test": "test"}
CATEGORIES = tuple(sorted(CATEGORY.values()))
MIMIC = ("dicom_id", "subject_id", "study_id")


def image_path(study: Study, image_id: str) -> str:
    """Return the path of one of the study's images in MIMIC-CXR-JPG."""
    return f"files/{study.subject_id[:3]}/{study.subject_id}/{study.study_id}/{image_id}.jpg"


def row(study: Study) -> dict[str, Any]:
    """Return the table row of one study, small enough to pass between processes."""
    height, width = study.image.shape
    return {
        "dicom_id": study.image_id,
        "subject_id": study.subject_id[1:],
        "study_id": study.study_id[1:],
        "split": study.split,
        "path": image_path(study, study.image_id),
        "ViewPosition": study.exposure.view,
        "Rows": height,
        "Columns": width,
        "findings": study.report.findings,
        "impression": study.report.impression,
        "triplets": study.triplets,
        "truth": _truth(study),
        "regions": [{"name": name, "box": list(box)} for name, box in study.regions.items()],
        "phrases": _phrases(study),
        "lateral": _lateral(study),
    }


def _lateral(study: Study) -> dict[str, Any] | None:
    """Return the values that differ for the rows of the lateral image; None without one."""
    if study.lateral is None:
        return None
    height, width = study.lateral.image.shape
    ids = {"dicom_id": study.lateral.image_id, "path": image_path(study, study.lateral.image_id)}
    return ids | {"ViewPosition": "LATERAL", "Rows": height, "Columns": width}


def _truth(study: Study) -> list[dict[str, Any]]:
    """Return every finding, including those that the report does not mention."""
    return [
        {
            "finding": each.name,
            "category": each.category,
            "side": each.side,
            "regions": each.regions,
            "severity": each.severity,
            "box": list(each.box) if each.box else None,
            "group": each.group,
            "mentioned": each.mentioned and each.box is not None,
            "text": study.report.phrases.get(each.group),
        }
        for each in study.findings
    ]


def _phrases(study: Study) -> list[dict[str, Any]]:
    """Return the phrases as in MS-CXR: one per group of its eight categories, with all its boxes."""
    groups: dict[int, list[Box]] = defaultdict(list)
    names = {}
    for each in study.findings:
        if each.category and each.box and each.group in study.report.phrases:
            groups[each.group].append(each.box)
            names[each.group] = each.category
    return [
        {"category": names[group], "text": study.report.phrases[group], "boxes": found}
        for group, found in groups.items()
    ]


def tables(rows: list[dict[str, Any]]) -> Iterator[tuple[str, bytes]]:
    """Yield (path, content) of each table of the cohort."""
    jpg, silver = "mimic-cxr-jpg/mimic-cxr-2.0.0", "chest-imagenome/silver_dataset/splits"
    images = [image for each in rows for image in _images(each)]
    meta = ("dicom_id", "subject_id", "study_id", "ViewPosition", "Rows", "Columns")
    yield f"{jpg}-metadata.csv", as_csv(meta, ([each[name] for name in meta] for each in images))
    split = ("dicom_id", "study_id", "subject_id", "split")
    yield f"{jpg}-split.csv", as_csv(split, ([each[name] for name in split] for each in images))
    for ours, theirs in IMAGENOME.items():
        yield f"{silver}/{theirs}.csv", as_csv(*_imagenome_split(rows, ours))
    yield f"{silver}/images_to_avoid.csv", as_csv((*MIMIC[1:], "dicom_id", "path", "ViewPosition"), [])
    yield from _ms_cxr(rows)
    report = ("study_id", "subject_id", "findings", "impression")
    yield "reports.csv", as_csv(report, (_report_row(each) for each in rows))
    yield from _truth_files(rows)


def _images(each: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of a study's one or two images."""
    return [each] + ([each | each["lateral"]] if each["lateral"] else [])


def _report_row(each: dict[str, Any]) -> list[str]:
    return [f"s{each['study_id']}", f"p{each['subject_id']}", each["findings"], each["impression"]]


def _imagenome_split(rows: list[dict[str, Any]], split: str) -> tuple[list[str], list[list[Any]]]:
    names = ["subject_id", "study_id", "dicom_id", "path", "ViewPosition"]
    mine = [each for each in rows if each["split"] == split]
    return ["", *names], [[i, *(each[name] for name in names)] for i, each in enumerate(mine)]


def _truth_files(rows: list[dict[str, Any]]) -> Iterator[tuple[str, bytes]]:
    yield "truth/triplets.jsonl", _lines(line for each in rows for line in each["triplets"])
    ids = {"image_id": "dicom_id", "study_id": "study_id", "subject_id": "subject_id"}
    letter = {"image_id": "", "study_id": "s", "subject_id": "p"}
    yield (
        "truth/findings.jsonl",
        _lines(
            {key: letter[key] + each[name] for key, name in ids.items()} | {"split": each["split"]} | finding
            for each in rows
            for finding in each["truth"]
        ),
    )
    yield (
        "truth/regions.jsonl",
        _lines(
            {key: letter[key] + each[name] for key, name in ids.items()}
            | {
                "path": each["path"],
                "width": each["Columns"],
                "height": each["Rows"],
                "view": each["ViewPosition"],
            }
            | {"regions": [region | {"score": 1.0} for region in each["regions"]], "split": each["split"]}
            for each in rows
        ),
    )


def _ms_cxr(rows: list[dict[str, Any]]) -> Iterator[tuple[str, bytes]]:
    """Yield the CSV (one row per box) and the COCO file; both hold the same boxes, x, y, w, h in whole
    pixels."""
    numbers = ("x", "y", "w", "h", "image_width", "image_height")
    header = ("category_name", "label_text", "path", *numbers, "dicom_id", "split")
    lines: list[list[Any]] = []
    annotations: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []
    for each in rows:
        if each["phrases"]:
            images.append(_coco_image(each, len(images) + 1))
        for phrase in each["phrases"]:
            for box in phrase["boxes"]:
                place = _whole(box, each["Columns"], each["Rows"])
                size = (each["Columns"], each["Rows"], each["dicom_id"], MS_CXR[each["split"]])
                lines.append([phrase["category"], phrase["text"], each["path"], *place, *size])
                annotations.append(_annotation(each, phrase, place, len(annotations) + 1, len(images)))
    coco = {
        "info": {"description": "phantom in the format of MS-CXR", "version": "1.1.0"},
        "categories": [{"id": i, "name": name} for i, name in enumerate(CATEGORIES, start=1)],
        "images": images,
        "annotations": annotations,
    }
    yield "ms-cxr/MS_CXR_Local_Alignment_v1.1.0.csv", as_csv(header, lines)
    yield "ms-cxr/MS_CXR_Local_Alignment_v1.1.0.json", orjson.dumps(coco, option=orjson.OPT_INDENT_2)


def _whole(box: Box, width: int, height: int) -> list[int]:
    """Return x, y, w, h in whole pixels, inside the image, with an area."""
    x, y = min(int(box[0]), width - 1), min(int(box[1]), height - 1)
    return [x, y, max(1, min(round(box[2]), width) - x), max(1, min(round(box[3]), height) - y)]


def _coco_image(each: dict[str, Any], number: int) -> dict[str, Any]:
    size = {
        "width": each["Columns"],
        "height": each["Rows"],
        "num_annotations": sum(len(p["boxes"]) for p in each["phrases"]),
    }
    return {"id": number, "file_name": f"{each['dicom_id']}.jpg", "path": each["path"], **size}


def _annotation(
    each: dict[str, Any], phrase: dict[str, Any], box: list[int], number: int, image: int
) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image,
        "category_id": CATEGORIES.index(phrase["category"]) + 1,
        "bbox": box,
        "area": box[2] * box[3],
        "iscrowd": 0,
        "label_text": phrase["text"],
        "split": MS_CXR[each["split"]],
    }


def as_csv(header: Iterable[str], lines: Iterable[Iterable[Any]]) -> bytes:
    """Return a CSV file with this header."""
    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(header)
    table.writerows(lines)
    return stream.getvalue().encode()


def _lines(values: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(orjson.dumps(each, option=orjson.OPT_APPEND_NEWLINE) for each in values)


def scene_graph(study: Study) -> dict[str, Any]:
    """Return the image's graph as Chest ImaGenome writes it: objects with boxes, attributes by region."""
    height, width = study.image.shape
    letterbox = Letterbox(width, height, 224)
    return {
        "image_id": study.image_id,
        "viewpoint": study.exposure.view,
        "patient_id": int(study.subject_id[1:]),
        "study_id": int(study.study_id[1:]),
        "gender": "F" if study.patient.female else "M",
        "age_decile": f"{study.patient.age // 10 * 10}-{study.patient.age // 10 * 10 + 10}",
        "reason_for_exam": "___",
        "StudyDateTime": "2150-01-01 00:00:00 UTC",
        "objects": [_object(study, name, box, letterbox) for name, box in study.regions.items()],
        "attributes": _attributes(study),
        "relationships": [],
    }


def _object(study: Study, name: str, box: Box, letterbox: Letterbox) -> dict[str, Any]:
    scale, shift = 224 / max(letterbox.width, letterbox.height), letterbox.offset * 2
    small = [round(side * scale + by) for side, by in zip(box, shift, strict=True)]
    whole = [round(side) for side in box]
    keys = ("x1", "y1", "x2", "y2")
    return {
        "object_id": f"{study.image_id}_{name}",
        **dict(zip(keys, small, strict=True)),
        "width": small[2] - small[0],
        "height": small[3] - small[1],
        "bbox_name": name,
        "synsets": [],
        "name": name.capitalize(),
        **{f"original_{key}": value for key, value in zip(keys, whole, strict=True)},
        "original_width": whole[2] - whole[0],
        "original_height": whole[3] - whole[1],
    }


def _attributes(study: Study) -> list[dict[str, Any]]:
    """Return the report's statements by region; a statement without a region goes to both lungs."""
    mentions_at: dict[str, list[tuple[int, list[str], list[str]]]] = defaultdict(list)
    for number, said in enumerate(study.report.said):
        by_region: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for region, finding, existence in said.means:
            for place in [region] if region else ["right lung", "left lung"]:
                by_region[place].append((finding, existence))
        for place, pairs in by_region.items():
            mentions_at[place].append((number, *_words_of(pairs)))
    return [_attribute(study, region, mentions) for region, mentions in mentions_at.items()]


def _words_of(pairs: list[tuple[str, str]]) -> tuple[list[str], list[str]]:
    """Return (attributes, severity cues) of one sentence about one region."""
    words = []
    for finding, existence in pairs:
        answer = "no" if existence == "absent" else "yes"
        words.append(f"{KINDS.get(finding, 'anatomicalfinding')}|{answer}|{finding}")
    abnormal = any(existence != "absent" for _, existence in pairs)
    hedged = any(existence == "uncertain" for _, existence in pairs)
    return [*words, f"nlp|yes|{'abnormal' if abnormal else 'normal'}"], ["severity|yes|hedge"] * hedged


def _attribute(study: Study, region: str, mentions: list[tuple[int, list[str], list[str]]]) -> dict[str, Any]:
    said = [study.report.said[number] for number, _, _ in mentions]
    empty: list[list[str]] = [[] for _ in mentions]
    return {
        region: True,
        "bbox_name": region,
        "synsets": [],
        "name": region.capitalize(),
        "attributes": [words for _, words, _ in mentions],
        "attributes_ids": empty,
        "phrases": [" ".join(each.text.split()) for each in said],
        "phrase_IDs": [f"{study.study_id[1:]}|{number}" for number, _, _ in mentions],
        "sections": ["finalreport" if each.section == "findings" else each.section for each in said],
        "comparison_cues": empty,
        "temporal_cues": empty,
        "severity_cues": [cues for _, _, cues in mentions],
        "texture_cues": empty,
        "object_id": f"{study.image_id}_{region}",
    }
