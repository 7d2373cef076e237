"""The cohort's labels in the layouts of downstream data sets, from the ground truth; `convert` reads them.

    layouts/nih       Data_Entry_2017.csv, BBox_List_2017.csv, train_val_list.txt, test_list.txt, images/*.png
    layouts/rsna      stage_2_train_labels.csv, stage_2_detailed_class_info.csv, stage_2_train_images/*.dcm
    layouts/siim      train-rle.csv, dicom-images-train/*.dcm
    layouts/vqa-rad   VQA_RAD Dataset Public.json, images/*.png
    layouts/iu-xray   annotation.json, images/*/0.png

The images are the frontal ones, resized to squares as NIH's were. Coordinates are pixels of 1024 x 1024, as
published; the images may be smaller. nih, vqa-rad and iu-xray have the patients of the cohort's split;
rsna and siim name no split, and `convert` draws it by image, of which each patient has one.
"""

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from PIL import Image

from medground import run_lengths
from medground.errors import MedgroundError
from medground.phantom import questions
from medground.phantom.cohort import Study
from medground.phantom.findings import OPACITIES, Finding
from medground.phantom.tables import as_csv

NAMES = ("nih", "siim", "rsna", "vqa-rad", "iu-xray")
SIDE = 1024
NIH = {  # a mass is a large nodule
    "atelectasis": "Atelectasis",
    "enlarged cardiac silhouette": "Cardiomegaly",
    "pleural effusion": "Effusion",
    "lung opacity": "Infiltration",
    "pneumonia": "Pneumonia",
    "pneumothorax": "Pneumothorax",
    "consolidation": "Consolidation",
    "pulmonary edema/hazy opacity": "Edema",
    "mass/nodule (not otherwise specified)": "Nodule",
}
LISTED = {
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
}
NIH_HEADER = (
    *("Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "Patient Gender"),
    *("View Position", "OriginalImage[Width", "Height]", "OriginalImagePixelSpacing[x", "y]", ""),
)
PART = {"train": "train", "validate": "val", "test": "test"}


def check(names: Iterable[str]) -> None:
    """Raise MedgroundError for DICOM layouts without pydicom."""
    if {"rsna", "siim"}.isdisjoint(names):
        return
    try:
        import pydicom  # noqa: F401
    except ModuleNotFoundError:
        raise MedgroundError("--layouts rsna and siim need pydicom: pip install medground[dicom]") from None


def images(study: Study, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yield (path, content) of the study's image in each layout."""
    square = _square(study.image)
    stream = io.BytesIO()
    Image.fromarray(square).save(stream, "PNG")
    png = {
        "nih": f"nih/images/{_nih_name(study)}",
        "vqa-rad": f"vqa-rad/images/{_vqa_name(study)}",
        "iu-xray": f"iu-xray/images/{_iu_path(study)}",
    }
    dcm = {"rsna": "rsna/stage_2_train_images", "siim": "siim/dicom-images-train"}
    for name in names:
        if name in png:
            yield f"layouts/{png[name]}", stream.getvalue()
        else:
            yield f"layouts/{dcm[name]}/{study.image_id}.dcm", _dicom(study, square)


def row(study: Study, names: Sequence[str]) -> dict[str, Any]:
    """Return what the tables of each layout say about one study."""
    kinds = {
        "nih": _nih,
        "rsna": _rsna,
        "siim": _siim,
        "vqa-rad": _vqa,
        "iu-xray": _iu,
    }
    return {name: kinds[name](study) for name in names}


def tables(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yield (path, content) of the tables of each layout; rows: those of `row`."""
    kinds: dict[str, Callable[[list[Any]], Iterator[tuple[str, bytes]]]] = {
        "nih": _nih_tables,
        "rsna": _rsna_tables,
        "siim": _siim_tables,
        "vqa-rad": _vqa_tables,
        "iu-xray": _iu_tables,
    }
    for name in names:
        for path, content in kinds[name]([each[name] for each in rows]):
            yield f"layouts/{name}/{path}", content


def _square(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    side = max(image.shape)
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))


def _box(study: Study, finding: Finding) -> tuple[float, float, float, float]:
    """Return x, y, width, height of a visible finding in the square."""
    height, width = study.image.shape
    assert finding.box
    x1, y1, x2, y2 = finding.box
    across, down = SIDE / width, SIDE / height
    return tuple(round(each, 2) for each in (x1 * across, y1 * down, (x2 - x1) * across, (y2 - y1) * down))  # type: ignore[return-value]


def _seen(study: Study) -> list[Finding]:
    return [each for each in study.findings if each.box]


def _class(finding: Finding) -> str:
    return "Mass" if NIH[finding.name] == "Nodule" and finding.severity == "large" else NIH[finding.name]


def _nih_name(study: Study) -> str:
    return f"{study.subject_id[1:]}_000.png"


def _nih(study: Study) -> dict[str, Any]:
    named = [(_class(each), each) for each in _seen(study) if each.name in NIH]
    height, width = study.image.shape
    entry = [
        _nih_name(study),
        "|".join(sorted({name for name, _ in named})) or "No Finding",
        *(0, int(study.subject_id[1:]), study.patient.age, "F" if study.patient.female else "M"),
        *(study.exposure.view, width, height, 0.143, 0.143, ""),
    ]
    boxes = [
        [_nih_name(study), name.replace("Infiltration", "Infiltrate"), *_box(study, each), "", "", ""]
        for name, each in named
        if name in LISTED
    ]
    return {"entry": entry, "boxes": boxes, "test": study.split == "test"}


def _nih_tables(rows: list[dict[str, Any]]) -> Iterator[tuple[str, bytes]]:
    # the published header is written as it is: the commas in its brackets part cells
    yield "Data_Entry_2017.csv", as_csv(NIH_HEADER, (each["entry"] for each in rows))
    header = ("Image Index", "Finding Label", "Bbox [x", "y", "w", "h]", "", "", "")
    yield "BBox_List_2017.csv", as_csv(header, (box for each in rows for box in each["boxes"]))
    for name, test in (("train_val_list.txt", False), ("test_list.txt", True)):
        own = [each["entry"][0] for each in rows if each["test"] == test]
        yield name, "".join(f"{each}\n" for each in own).encode()


def _rsna(study: Study) -> dict[str, Any]:
    boxes = [_box(study, each) for each in _seen(study) if each.name in OPACITIES]
    kind = "Lung Opacity" if boxes else "No Lung Opacity / Not Normal" if study.findings else "Normal"
    return {"id": study.image_id, "boxes": boxes, "kind": kind}


def _rsna_tables(rows: list[dict[str, Any]]) -> Iterator[tuple[str, bytes]]:
    header = ("patientId", "x", "y", "width", "height", "Target")
    none = [("", "", "", "", 0)]
    lines = ([e["id"], *box] for e in rows for box in [(*b, 1) for b in e["boxes"]] or none)
    yield "stage_2_train_labels.csv", as_csv(header, lines)
    kinds = ([e["id"], e["kind"]] for e in rows for _ in range(max(1, len(e["boxes"]))))
    yield "stage_2_detailed_class_info.csv", as_csv(("patientId", "class"), kinds)


def _siim(study: Study) -> dict[str, Any]:
    found = [each.mask for each in study.findings if each.name == "pneumothorax" and each.mask is not None]
    return {"id": study.image_id, "masks": [_gaps(mask) for mask in found if mask.any()]}


def _gaps(mask: NDArray[np.bool_]) -> str:
    """Return SIIM's run lengths of a mask of the image, enlarged to 1024 x 1024."""
    whole = np.asarray(Image.fromarray(mask).resize((SIDE, SIDE), Image.Resampling.NEAREST))
    return run_lengths.gaps(whole)


def _siim_tables(rows: list[dict[str, Any]]) -> Iterator[tuple[str, bytes]]:
    # the blanks before the second name and before -1 are those of the published file
    lines = ([each["id"], f" {mask}"] for each in rows for mask in each["masks"] or ["-1"])
    yield "train-rle.csv", as_csv(("ImageId", " EncodedPixels"), lines)


def _vqa_name(study: Study) -> str:
    return f"synpic{study.subject_id[1:]}.png"


def _vqa(study: Study) -> list[dict[str, Any]]:
    number, name = int(study.subject_id[1:]), _vqa_name(study)
    test = "test_freeform" if study.split == "test" else "freeform"
    return [
        {
            "qid": f"{number}{place}",
            "phrase_type": test,
            "qid_linked_id": f"{number}-{place}",
            "image_case_url": "",
            "image_name": name,
            "image_organ": "CHEST",
            "evaluation": "given",
            "question": each.text,
            "question_rephrase": "NULL",
            "question_relation": "NULL",
            "question_frame": "NULL",
            "question_type": each.kind,
            "answer": each.answer,
            "answer_type": "CLOSED" if each.closed else "OPEN",
        }
        for place, each in enumerate(questions.of(study))
    ]


def _vqa_tables(rows: list[list[dict[str, Any]]]) -> Iterator[tuple[str, bytes]]:
    whole = [question for each in rows for question in each]
    yield "VQA_RAD Dataset Public.json", orjson.dumps(whole, option=orjson.OPT_INDENT_2)


def _iu_path(study: Study) -> str:
    return f"CXR{study.subject_id[1:]}_IM-0001/0.png"


def _iu(study: Study) -> dict[str, Any]:
    return {
        "id": f"CXR{study.subject_id[1:]}_IM-0001",
        "report": " ".join((study.report.findings or study.report.impression).split()),
        "image_path": [_iu_path(study)],
        "split": PART[study.split],
    }


def _iu_tables(rows: list[dict[str, Any]]) -> Iterator[tuple[str, bytes]]:
    parts = {part: [each for each in rows if each["split"] == part] for part in PART.values()}
    yield "annotation.json", orjson.dumps(parts, option=orjson.OPT_INDENT_2)


def _dicom(study: Study, square: NDArray[np.uint8]) -> bytes:
    """Return the square as a DICOM file; its UIDs follow from the image."""
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
    from pydicom.uid import UID, ComputedRadiographyImageStorage, ExplicitVRLittleEndian

    number = int.from_bytes(hashlib.sha256(study.image_id.encode()).digest()[:15])
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = (
        ExplicitVRLittleEndian,
        ComputedRadiographyImageStorage,
    )
    meta.MediaStorageSOPInstanceUID = UID(f"2.25.{number}")
    data: Dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = ComputedRadiographyImageStorage, f"2.25.{number}"
    data.PatientID, data.Modality, data.ViewPosition = study.image_id, "CR", study.exposure.view
    data.Rows, data.Columns = square.shape
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation, data.SamplesPerPixel = 7, 0, 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.PixelData = square.tobytes() + b"\0" * (square.size % 2)
    data["PixelData"].VR = "OB"
    stream = io.BytesIO()
    data.save_as(stream, enforce_file_format=True)
    return stream.getvalue()
