"""The data sets that `medground convert` reads, in the order of its subcommands."""

from medground.registry.downstream_datasets import DOWNSTREAM, DRAWN
from medground.registry.entries import Dataset, Table

WORDED = ("templates", "sides")  # options of data sets with classes
DATASETS = Table(
    "medground.datasets",
    Dataset,
    {
        "mimic-reports": Dataset(
            target="medground.datasets.mimic_cxr:read_reports",
            help="Convert MIMIC-CXR's report tree to reports.\n\nReads a folder, a .zip or one .txt.",
            records="reports",
            source="tree",
            options=("split-table",),
            example="mimic-cxr-reports.zip -o reports.jsonl",
        ),
        "mimic-sectioned": Dataset(
            target="medground.datasets.mimic_cxr:read_sectioned",
            help="Convert MIMIC-CXR's sections to reports.\n\n"
            "Reads mimic_cxr_sectioned.csv; the reports have sections instead of one text.",
            records="reports",
            options=("split-table",),
            example="mimic_cxr_sectioned.csv -o reports.jsonl",
        ),
        "mimic-jpg": Dataset(
            target="medground.datasets.mimic_cxr:read_images",
            help="Convert MIMIC-CXR-JPG's metadata to images.\n\n"
            "Reads mimic-cxr-2.0.0-metadata.csv; the images have no regions: pass them to detect-anatomy.",
            records="images",
            options=("split-table", "frontal-only"),
            example="mimic-cxr-2.0.0-metadata.csv --frontal-only -o images.jsonl",
        ),
        "imagenome": Dataset(
            target="medground.datasets.chest_imagenome:read_anatomy",
            help="Convert Chest ImaGenome's scene graphs to region boxes.\n\n"
            "Reads the scene graphs under a folder or in a .zip; invalid boxes are fixed, with a warning. "
            "With --split, images of the gold patients (images_to_avoid.csv) are excluded.",
            records="images",
            source="tree",
            options=("metadata", "split-folder"),
            example="chest-imagenome-1.0.0 \\\n"
            "          --metadata mimic-cxr-2.0.0-metadata.csv --split train -o boxes.jsonl",
        ),
        "imagenome-gold": Dataset(
            target="medground.datasets.chest_imagenome:read_gold",
            help="Convert Chest ImaGenome's gold boxes to region boxes.\n\n"
            "Reads gold_bbox_coordinate_annotations_1000images.csv: manually annotated boxes.",
            records="images",
            options=("metadata",),
            splits=False,
            example="gold_bbox_coordinate_annotations_1000images.csv \\\n"
            "          --metadata mimic-cxr-2.0.0-metadata.csv -o gold.jsonl",
        ),
        "ms-cxr": Dataset(
            target="medground.datasets.ms_cxr:read",
            help="Convert MS-CXR to phrases with boxes.\n\nReads the CSV of either version, or the JSON.",
            records="phrases",
            example="MS_CXR_Local_Alignment_v1.1.0.csv --split test -o test.jsonl",
        ),
        "ms-cxr-t": Dataset(
            target="medground.datasets.ms_cxr_t:read",
            help="Convert MS-CXR-T's progressions to phrases.\n\n"
            "Reads MS_CXR_T_temporal_image_classification_v1.0.0.csv; the phrases have no boxes.",
            records="phrases",
            splits=False,
            example="MS_CXR_T_temporal_image_classification_v1.0.0.csv -o phrases.jsonl",
        ),
        "vindr-cxr": Dataset(
            target="medground.datasets.vindr_cxr:read",
            help="Convert VinDr-CXR's boxes to phrases.\n\n"
            "Reads annotations_train.csv, annotations_test.csv or Kaggle's train.csv.",
            records="phrases",
            options=("readers", *WORDED, "absent", "image-sizes"),
            splits=False,
            example="annotations_train.csv --image-sizes sizes.jsonl -o phrases.jsonl",
        ),
        "nih-boxes": Dataset(
            target="medground.datasets.nih_boxes:read_nih",
            help="Convert the boxes of NIH ChestX-ray14 to phrases.\n\nReads BBox_List_2017.csv.",
            records="phrases",
            options=WORDED,
            splits=False,
            example="BBox_List_2017.csv --sides -o phrases.jsonl",
        ),
        "chestx-det": Dataset(
            target="medground.datasets.nih_boxes:read_chestx_det",
            help="Convert ChestX-Det's boxes to phrases.\n\n"
            "Reads ChestX_Det_train.json or ChestX_Det_test.json, and the files of ChestX-Det10.",
            records="phrases",
            options=(*WORDED, "absent"),
            splits=False,
            example="ChestX_Det_train.json --sides --absent -o phrases.jsonl",
        ),
        "rsna": Dataset(
            target="medground.datasets.challenges:read_rsna",
            help="Convert RSNA's pneumonia boxes to phrases.\n\nReads stage_2_train_labels.csv.",
            records="phrases",
            options=(*WORDED, "absent", *DRAWN),
            splits=False,
            example="stage_2_train_labels.csv --absent -o phrases.jsonl",
        ),
        "siim": Dataset(
            target="medground.datasets.challenges:read_siim",
            help="Convert SIIM-ACR's pneumothorax masks to phrases.\n\n"
            "Reads train-rle.csv; each piece of a mask becomes a box.",
            records="phrases",
            options=(*WORDED, "absent"),
            splits=False,
            example="train-rle.csv --absent -o phrases.jsonl",
        ),
        "chexlocalize": Dataset(
            target="medground.datasets.chexlocalize:read",
            help="Convert CheXlocalize's masks to phrases.\n\n"
            "Reads gt_segmentations_val.json or _test.json; each piece of a mask becomes a box.",
            records="phrases",
            options=(*WORDED, "absent"),
            splits=False,
            example="gt_segmentations_val.json -o phrases.jsonl",
        ),
        "padchest-gr": Dataset(
            target="medground.datasets.padchest_gr:read",
            help="Convert PadChest-GR's grounded sentences to phrases.\n\n"
            "Reads grounded_reports_20240819.json; sentences of absent findings have no boxes.",
            records="phrases",
            options=("image-sizes", "readers", "language"),
            splits=False,
            example="grounded_reports_20240819.json --image-sizes sizes.jsonl -o phrases.jsonl",
        ),
        "coco": Dataset(
            target="medground.datasets.coco_phrases:read",
            help="Convert any COCO detections to phrases.\n\nReads images, categories and annotations.",
            records="phrases",
            options=(*WORDED, "absent"),
            splits=False,
            example="instances.json -o phrases.jsonl",
        ),
        "label-studio": Dataset(
            target="medground.datasets.annotation_tools:read_label_studio",
            help="Convert an export of Label Studio to phrases.\n\n"
            "Reads its JSON; tasks of ground --output-format label-studio keep their ids.",
            records="phrases",
            splits=False,
            example="project-1.json -o phrases.jsonl",
        ),
        "cvat": Dataset(
            target="medground.datasets.annotation_tools:read_cvat",
            help="Convert an export of CVAT to phrases.\n\n"
            "Reads annotations.xml (CVAT for images 1.1); files of ground --output-format cvat keep ids.",
            records="phrases",
            splits=False,
            example="annotations.xml -o phrases.jsonl",
        ),
        "dicom-sr": Dataset(
            target="medground.datasets.dicom_reports:read",
            help="Convert DICOM structured reports to phrases.\n\n"
            "Reads measurement groups (TID 1500) with regions on images, as render --output-format dicom-sr "
            "writes them: a file, or the .dcm of a folder or .zip.",
            records="phrases",
            source="tree",
            options=("images",),
            splits=False,
            example="reports --images images -o phrases.jsonl",
        ),
        "dicom-seg": Dataset(
            target="medground.datasets.dicom_segmentations:read",
            help="Convert DICOM segmentations to phrases.\n\n"
            "Reads binary, fractional and label map segmentations, as render --output-format dicom-seg "
            "writes them: a file, or the .dcm of a folder or .zip. Each piece of a mask becomes a box.",
            records="phrases",
            source="tree",
            options=("images",),
            splits=False,
            example="segmentations --images images -o phrases.jsonl",
        ),
        "dicom-seg-masks": Dataset(
            target="medground.datasets.dicom_segmentations:read_masks",
            help="Convert DICOM segmentations to masks.\n\n"
            "Reads the files of convert dicom-seg. Segments of one image with the same label are one mask.",
            records="masks",
            source="tree",
            options=("images",),
            splits=False,
            example="segmentations --images images -o masks.jsonl",
        ),
        **DOWNSTREAM,
    },
)
