"""One small file of each data set of downstream tasks, as published.

`CONVERT` has the arguments of each subcommand of `convert`, the kind of its records, and their number.
"""

import csv
import json
from pathlib import Path

from medground.records import Label, Mask, Question, Report

CHEXPERT = (
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,"
)
CHEXPERT += (
    "Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,"
)
CHEXPERT += "Fracture,Support Devices\n"
NIH = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
NIH += "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],\n"
RAD = {"qid": 1, "phrase_type": "freeform", "image_name": "synpic1.jpg", "question": "Is it normal?"}
RAD |= {"answer": "No", "answer_type": "CLOSED ", "question_type": "ABN", "image_organ": "CHEST"}
SLAKE = {"img_name": "xmlab1/source.jpg", "question": "How many?", "answer": 3, "q_lang": "en", "qid": 7}
SLAKE |= {"answer_type": "OPEN", "content_type": "Quantity", "modality": "X-Ray", "location": "Lung"}
REPORTS = {"train": [{"id": "CXR1", "report": "Clear.", "image_path": ["CXR1/0.png", "CXR1/1.png"]}]}
MIMIC_VQA = "idx,study_id,subject_id,ref_id,question_type,question,answer,split\n"
FILES = {
    "nih_labels.csv": NIH + "00000001_000.png,Mass|Nodule,0,1,058Y,M,PA,2682,2749,0.143,0.143,\n",
    "test_list.txt": "00000001_000.png\n\n",
    "chexpert.csv": CHEXPERT + "CheXpert-v1.0/train/patient00001/study1/view1_frontal.jpg,Male,6,Frontal,AP"
    ",1.0,,0.0,-1.0" + 10 * "," + "\n",
    "rsna_labels.csv": "patientId,x,y,width,height,Target\na,1,2,30,40,1\nb,,,,,0\n",
    "siim_masks.csv": "ImageId, EncodedPixels\na, 100 5\nb, -1\n",
    "train_COVIDx9A.txt": "9 a b.png pneumonia cohen\n8 c.png normal rsna\n",
    "vqa_rad.json": json.dumps([RAD, RAD | {"qid": 2, "phrase_type": "test_para"}]),
    "valset.json": json.dumps([{key: each for key, each in RAD.items() if key != "phrase_type"}]),
    "validate.json": json.dumps([SLAKE, SLAKE | {"q_lang": "zh"}]),
    "mimic_pair_questions.csv": MIMIC_VQA + "0,50414267,10000032,,presence,is there edema?,yes,train\n",
    "annotation.json": json.dumps(REPORTS),
}
CONVERT = {
    "nih": ("nih_labels.csv --test-list test_list.txt", Label, 1),
    "chexpert": ("chexpert.csv", Label, 1),
    "rsna-labels": ("rsna_labels.csv", Label, 2),
    "covidx": ("train_COVIDx9A.txt", Label, 2),
    "rsna-masks": ("rsna_labels.csv", Mask, 2),
    "siim-masks": ("siim_masks.csv", Mask, 2),
    "vqa-rad": ("vqa_rad.json", Question, 2),
    "ovqa": ("valset.json", Question, 1),
    "slake": ("validate.json", Question, 1),
    "iu-xray": ("annotation.json", Report, 1),
}


def write(folder: Path) -> None:
    """Write the files into a folder."""
    for name, text in FILES.items():
        (folder / name).write_text(text)


def about_a_study_of(metadata: Path) -> str:
    """Return mimic_pair_questions.csv with a question about the first frontal study of a metadata table."""
    with metadata.open(newline="") as stream:
        row = next(each for each in csv.DictReader(stream) if each["ViewPosition"] in ("AP", "PA"))
    return MIMIC_VQA + f"0,{row['study_id']},{row['subject_id']},,presence,is there edema?,yes,train\n"
