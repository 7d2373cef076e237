"""One small file of each data set with boxes, as published; `CONVERT` has the arguments of its subcommand."""

import json
from pathlib import Path

from ms_cxr_files import coco

LABELED = {"data": {"image": "a", "path": "a", "image_id": "a", "phrase_id": "p", "text": "edema"}}
LABELED |= {"annotations": [{"result": []}]}
TAGGED = "<image name='a.png' width='9' height='9'><tag label='x'/></image>"
PROGRESSIONS = ",".join(
    f"{each}_progression"
    for each in ("consolidation", "edema", "pleural_effusion", "pneumonia", "pneumothorax")
)
FILES = {
    "progress.csv": f"dicom_id,previous_dicom_id,subject_id,study_id,{PROGRESSIONS}\na,b,1,2,stable,,,,\n",
    "vindr.csv": "image_id,rad_id,class_name,x_min,y_min,x_max,y_max\na,R1,ILD,1,2,30,40\n",
    "nih.csv": "Image Index,Finding Label,Bbox [x,y,w,h],,,\na.png,Mass,1,2,30,40,,,\n",
    "det.json": '[{"file_name": "a.png", "syms": ["Mass"], "boxes": [[1, 2, 30, 40]]}]',
    "rsna.csv": "patientId,x,y,width,height,Target\na,1,2,30,40,1\nb,,,,,0\n",
    "siim.csv": "ImageId, EncodedPixels\na, 100 5\nb, -1\n",
    "localize.json": '{"patient1_study1_view1_frontal": {"Edema": {"size": [2, 3], "counts": "222"}}}',
    "grounded.json": '[{"ImageID": "a.png", "findings": [{"sentence_en": "Clear.", "boxes": []}]}]',
    "sizes.jsonl": '{"image_id": "a", "path": "a.png", "width": 100, "height": 80}\n',
    "coco.json": json.dumps(coco()),
    "label.json": json.dumps([LABELED]),
    "cvat.xml": f"<annotations>{TAGGED}</annotations>",
}
CONVERT = {
    "ms-cxr-t": "progress.csv",
    "vindr-cxr": "vindr.csv",
    "nih-boxes": "nih.csv",
    "chestx-det": "det.json",
    "rsna": "rsna.csv",
    "siim": "siim.csv",
    "chexlocalize": "localize.json",
    "padchest-gr": "grounded.json --image-sizes sizes.jsonl",
    "coco": "coco.json",
    "label-studio": "label.json",
    "cvat": "cvat.xml",
}


def write(folder: Path) -> None:
    """Write the files into a folder."""
    for name, text in FILES.items():
        (folder / name).write_text(text)
