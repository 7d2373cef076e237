"""The data sets of downstream tasks: labels, masks, questions, and reports with their images."""

from medground.registry.entries import Dataset

DRAWN = ("split-shares", "split-seed")  # of data sets without a published split
DOWNSTREAM = {
    "nih": Dataset(
        target="medground.datasets.nih_labels:read",
        help="Convert NIH ChestX-ray14 to labels of 14 classes.\n\nReads Data_Entry_2017.csv or _v2020.csv.",
        records="labels",
        options=("test-list", "val-share", *DRAWN),
        example="Data_Entry_2017.csv --test-list test_list.txt -o labels.jsonl",
    ),
    "chexpert": Dataset(
        target="medground.datasets.chexpert:read",
        help="Convert CheXpert to labels of 14 classes.\n\nReads train.csv or valid.csv.",
        records="labels",
        options=("frontal-only", "competition", "val-share", "split-seed"),
        example="train.csv --frontal-only --competition -o labels.jsonl",
    ),
    "rsna-labels": Dataset(
        target="medground.datasets.challenge_labels:read_rsna_labels",
        help="Convert RSNA's pneumonia challenge to labels.\n\nReads stage_2_train_labels.csv.",
        records="labels",
        options=DRAWN,
        example="stage_2_train_labels.csv -o labels.jsonl",
    ),
    "covidx": Dataset(
        target="medground.datasets.covidx:read",
        help="Convert COVIDx to labels of three classes, or two.\n\n"
        "Reads train_COVIDx9A.txt and files like it: four fields, no header.",
        records="labels",
        options=("part", "val-share", "split-seed"),
        example="train_COVIDx9A.txt -o labels.jsonl",
    ),
    "rsna-masks": Dataset(
        target="medground.datasets.challenge_labels:read_rsna_masks",
        help="Convert RSNA's pneumonia boxes to masks.\n\nReads stage_2_train_labels.csv; boxes are filled.",
        records="masks",
        options=DRAWN,
        example="stage_2_train_labels.csv -o masks.jsonl",
    ),
    "siim-masks": Dataset(
        target="medground.datasets.challenge_labels:read_siim_masks",
        help="Convert SIIM-ACR's run lengths to masks.\n\n"
        "Reads train-rle.csv or stage_2_train.csv; the rows of an image are one mask.",
        records="masks",
        options=DRAWN,
        example="train-rle.csv -o masks.jsonl",
    ),
    "vqa-rad": Dataset(
        target="medground.datasets.questions:read_vqa_rad",
        help="Convert VQA-RAD to questions.\n\nReads 'VQA_RAD Dataset Public.json'.",
        records="questions",
        options=("val-share", "split-seed"),
        example="vqa_rad.json -o questions.jsonl",
    ),
    "ovqa": Dataset(
        target="medground.datasets.questions:read_ovqa",
        help="Convert OVQA to questions.\n\nReads trainset.json, valset.json or testset.json.",
        records="questions",
        options=("part",),
        example="valset.json -o questions.jsonl",
    ),
    "slake": Dataset(
        target="medground.datasets.questions:read_slake",
        help="Convert SLAKE's English questions.\n\nReads train.json, validate.json or test.json.",
        records="questions",
        options=("part",),
        example="validate.json -o questions.jsonl",
    ),
    "mimic-vqa": Dataset(
        target="medground.datasets.questions:read_mimic",
        help="Convert Medical-Diff-VQA to questions.\n\n"
        "Reads mimic_pair_questions.csv; each question gets its study's first frontal image.",
        records="questions",
        options=("metadata",),
        example="mimic_pair_questions.csv \\\n"
        "          --metadata mimic-cxr-2.0.0-metadata.csv -o questions.jsonl",
    ),
    "iu-xray": Dataset(
        target="medground.datasets.iu_xray:read",
        help="Convert R2Gen's annotation.json to reports.\n\nReads that of IU X-ray and of MIMIC-CXR.",
        records="reports",
        example="annotation.json --split train -o reports.jsonl",
    ),
}
