"""Content of Chest ImaGenome files, as published."""

IMAGE = "02aa804e-bde0afdd"
METADATA = (
    "dicom_id,subject_id,study_id,ViewPosition,Rows,Columns\n"
    f"{IMAGE},10000032,50414267,PA,3000,2500\n"
    "174413ec-4ec4c1f7,10000764,57375967,AP,3000,2500\n"
)
GOLD = (
    "image_id,x1,y1,x2,y2,width,height,bbox_name,annot_id,original_x1,original_x2,original_y1,original_y2\n"
)
LUNG = {
    "right lung": True,
    "bbox_name": "right lung",
    "phrases": ["Right lung is clear without pneumothorax.", "Possible mild opacity, unchanged."],
    "phrase_IDs": ["50414267|3", "50414267|12"],
    "sections": ["finalreport", "finalreport"],
    "attributes": [
        ["anatomicalfinding|no|lung opacity", "anatomicalfinding|no|pneumothorax", "nlp|yes|normal"],
        ["anatomicalfinding|yes|lung opacity", "texture|yes|opacity", "nlp|yes|abnormal"],
    ],
    "attributes_ids": [[], []],
    "severity_cues": [[], ["severity|yes|hedge", "severity|yes|mild"]],
    "comparison_cues": [[], ["comparison|yes|no change"]],
    "temporal_cues": [[], []],
    "texture_cues": [[], []],
    "object_id": "i_right lung",
}


def drawn(name, x1, y1, x2, y2):
    """Return an object of a scene graph: its box in original pixels, and a 224 letterbox to ignore."""
    small = {"x1": 1, "y1": 2, "x2": 3, "y2": 4, "width": 2, "height": 2}
    own = {"original_x1": x1, "original_y1": y1, "original_x2": x2, "original_y2": y2}
    return {"object_id": f"{IMAGE}_{name}", "bbox_name": name, "synsets": [], **small, **own}


def graph(*objects, **more):
    """Return the scene graph of IMAGE with these objects."""
    return {
        "image_id": IMAGE,
        "viewpoint": "AP",
        "patient_id": 10000032,
        "study_id": 50414267,
        "gender": "F",
        "objects": list(objects),
        "attributes": [],
        "relationships": [],
        **more,
    }
