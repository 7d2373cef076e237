"""One record of each kind, as JSON values, that tests of several commands share."""

REPORT = {"study_id": "s1", "text": "FINDINGS: There is a left pleural effusion.", "site": "A"}
REGION = {"name": "left costophrenic angle", "box": [1, 2, 30, 40], "score": 1.0}
IMAGE = {
    "image_id": "i1",
    "study_id": "s1",
    "path": "i1.png",
    "width": 100,
    "height": 100,
    "regions": [
        REGION | {"name": name}
        for name in ("left lung", "left costophrenic angle", "left lower lung zone", "left hemidiaphragm")
    ],
    "scanner": "B",
}
SENTENCE = {
    "study_id": "s1",
    "sentence_id": "s1|0",
    "section": "findings",
    "start": 0,
    "end": 5,
    "text": "Words",
    "triplets": [
        {
            "region": "left lung",
            "finding": "lung opacity",
            "existence": "present",
            "finding_span": [0, 5],
            "region_span": None,
            "cue": None,
            "cue_span": None,
            "region_source": "default",
            "rule": "test",
        }
    ],
}
