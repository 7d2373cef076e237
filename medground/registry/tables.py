"""The entries of medground itself, in the order in which the command line lists them."""

from medground.registry.entries import (
    Architecture,
    Detector,
    MaskFormat,
    OutputFormat,
    PredictionFormat,
    Protocol,
    Table,
)

ARCHITECTURES = Table(
    "medground.architectures",
    Architecture,
    {
        "transvg": Architecture(
            target="medground.models.transvg:TransVG",
            help="one box per phrase",
            features=frozenset({"reg-token", "plain-patches"}),
        ),
        "text-query": Architecture(
            target="medground.models.text_query:TextQuery",
            help="one box per phrase, few operations per phrase",
        ),
        "mdetr": Architecture(
            target="medground.models.mdetr:MDETR",
            help="no box, one or several per phrase",
            features=frozenset({"several-boxes", "soft-tokens", "plain-patches"}),
        ),
    },
)

DETECTORS = Table(
    "medground.detectors",
    Detector,
    {
        "region-query": Detector(
            target="medground.anatomy.detector:RegionQueryDetector",
            help="one learned query per region",
            trainer="medground.training.detectors.trainers:train_region_query",
            takes_encoder=True,
        ),
        "transformers": Detector(
            target="medground.anatomy.detr:TransformersDetector",
            help="RT-DETRv2 or D-FINE, from a folder that transformers saved",
            trainer="medground.training.detectors.trainers:train_transformers",
            stored_as="folder",
            needs_start=True,
        ),
        "yolo": Detector(
            target="medground.anatomy.yolo:YoloDetector",
            help="ultralytics' YOLO (AGPL-3.0), needs pip install medground[yolo]",
            trainer="medground.training.detectors.trainers:train_yolo",
            chooses_lr=True,
            reads_pickle=True,
        ),
    },
)

ARRAYS, PICTURES = (".npy", ".npz"), (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


def _masks_by_class(help: str) -> MaskFormat:
    """Return the format of files with one mask per class."""
    reader = "medground.anatomy.mask_boxes:read_classes"
    return MaskFormat(target=reader, help=help, suffixes=(*ARRAYS, ".json"), folders=True)


MASK_FORMATS = Table(
    "medground.mask_formats",
    MaskFormat,
    {
        "cxas": _masks_by_class("as CXAS writes: NAME.npy, .npz, NAME/CLASS.png or NAME.json"),
        "pspnet": _masks_by_class("the same files of TorchXRayVision's PSPNet"),
        "named": _masks_by_class("the same files with our region names as classes"),
        "label-map": MaskFormat(
            target="medground.anatomy.mask_boxes:read_labels",
            help="NAME.png of integers",
            suffixes=(*PICTURES, *ARRAYS),
            needs_names=True,
        ),
        "coco": MaskFormat(
            target="medground.anatomy.mask_boxes:read_coco",
            help="COCO's JSON of all images, or NAME.json",
            suffixes=(".json",),
            all_images="medground.anatomy.coco:load",
        ),
    },
)

PROTOCOLS = Table(
    "medground.protocols",
    Protocol,
    {
        "single-box": Protocol(
            target="medground.evaluation.protocols:SINGLE_BOX",
            help="first box of phrases with one true box",
        ),
        "pooled": Protocol(
            target="medground.evaluation.protocols:POOLED",
            help="covered areas summed over phrases (ChEX)",
        ),
        "all-pairs": Protocol(
            target="medground.evaluation.protocols:ALL_PAIRS",
            help="mean IoU over pairs of boxes (RadVLM)",
        ),
        "set": Protocol(
            target="medground.evaluation.protocols:SET",
            help="boxes of a phrase as a set",
        ),
        "coco": Protocol(
            target="medground.evaluation.protocols:COCO",
            help="average precision",
        ),
        "presence": Protocol(
            target="medground.evaluation.presence:PRESENCE",
            help="`present` of present and absent phrases",
        ),
        "rodeo": Protocol(
            target="medground.evaluation.paper_protocols:RODEO",
            help="localization and shape of matched boxes (RoDeO)",
        ),
        "radfact": Protocol(
            target="medground.evaluation.paper_protocols:RADFACT",
            help="grounding and spatial precision and recall (RadFact)",
        ),
        "chex": Protocol(
            target="medground.evaluation.paper_protocols:CHEX",
            help="pooled after non-maximum suppression, as ChEX's code",
        ),
        "pointing": Protocol(
            target="medground.evaluation.paper_protocols:POINTING",
            help="pointing game: center of the best box",
        ),
        "rsna": Protocol(
            target="medground.evaluation.paper_protocols:RSNA",
            help="average precision at RSNA's IoU levels",
        ),
        "heatmap": Protocol(
            target="medground.evaluation.heatmaps:HEATMAP",
            help="maps instead of boxes",
            reads="heatmaps",
        ),
        "anatomy": Protocol(
            target="medground.evaluation.anatomy:ANATOMY",
            help="boxes of named regions",
            reads="anatomy",
        ),
        "classification": Protocol(
            target="medground.evaluation.classification:CLASSIFICATION",
            help="classes of images, as probe predicts them",
            reads="labels",
        ),
        "segmentation": Protocol(
            target="medground.evaluation.segmentation:SEGMENTATION",
            help="masks of classes, as COCO's run lengths",
            reads="masks",
        ),
        "answers": Protocol(
            target="medground.evaluation.answers:ANSWERS",
            help="answers to questions, as answer predicts them",
            reads="questions",
        ),
        "reports": Protocol(
            target="medground.evaluation.written:REPORTS",
            help="written reports: BLEU, ROUGE-L, findings of our parser",
            reads="reports",
        ),
    },
)

SHARES = ("crop", "normalised")  # boxes of vision-language models cannot be pixels


def _text(name: str, model: str, frame: str, frames: tuple[str, ...] | None = None) -> PredictionFormat:
    """Return the format of a model's text."""
    reader = f"medground.evaluation.inputs.vlm_text:read_{name}"
    return PredictionFormat(target=reader, help=f"{model}'s text", frame=frame, frames=frames)


def _detections(model: str) -> PredictionFormat:
    """Return the format of a model's processor in transformers."""
    reader = "medground.evaluation.inputs.detections:read_detections"
    return PredictionFormat(target=reader, help=f"dictionaries of {model}'s processor")


PREDICTION_FORMATS = Table(
    "medground.prediction_formats",
    PredictionFormat,
    {
        "jsonl": PredictionFormat(
            target="medground.evaluation.inputs.readers:read_jsonl", help="groundings, as ground writes them"
        ),
        "csv": PredictionFormat(
            target="medground.evaluation.inputs.readers:read_csv", help="one row per box"
        ),
        "coco": PredictionFormat(
            target="medground.evaluation.inputs.coco_results:read_coco",
            help="COCO's list of results, or file",
        ),
        "maira-2": _text("maira_2", "MAIRA-2", "crop", SHARES),
        "radvlm": _text("radvlm", "RadVLM", "normalised"),
        "llava": _text("llava", "LLaVA", "padded:1"),
        "chexagent-2": _text("chexagent_2", "CheXagent-2", "stretch:100x100"),
        "qwen-vl": _text("qwen_vl", "Qwen2-VL or Qwen3-VL", "stretch:1000x1000"),
        "qwen2.5-vl": _text("qwen2_5_vl", "Qwen2.5-VL", "smart-resize"),
        "gemini": _text("gemini", "Gemini", "stretch:1000x1000"),
        "medgemma": _text("medgemma", "MedGemma", "padded:1000"),
        "paligemma": _text("paligemma", "PaliGemma", "stretch:1024x1024"),
        "florence-2": _text("florence_2", "Florence-2", "stretch:1000x1000"),
        "deepseek-vl2": _text("deepseek_vl2", "DeepSeek-VL2", "stretch:999x999"),
        "grounding-dino": _detections("Grounding DINO"),
        "owl": _detections("OWL-ViT or OWLv2"),
        "radfact": PredictionFormat(
            target="medground.evaluation.inputs.grounded_reports:read_radfact",
            help="grounded reports of RadFact",
            frame="normalised",
        ),
        "chexbench": PredictionFormat(
            target="medground.evaluation.inputs.grounded_reports:read_chexbench",
            help="predictions of ChexBench",
            frame="stretch:100x100",
        ),
    },
)

OUTPUT_FORMATS = Table(
    "medground.output_formats",
    OutputFormat,
    {
        "jsonl": OutputFormat(
            target="medground.grounding.formats:write_jsonl", help="one line per phrase", resumable=True
        ),
        "csv": OutputFormat(target="medground.grounding.formats:write_csv", help="one row per box"),
        "coco": OutputFormat(target="medground.grounding.formats:write_coco", help="one JSON file"),
        "label-studio": OutputFormat(
            target="medground.grounding.annotation_tools:write_label_studio",
            help="tasks with pre-annotations, in JSON",
        ),
        "cvat": OutputFormat(
            target="medground.grounding.annotation_tools:write_cvat",
            help="pre-annotations of CVAT, in XML 1.1",
        ),
        "radfact": OutputFormat(
            target="medground.grounding.formats:write_radfact", help="RadFact's examples, one per image"
        ),
        "dicom-sr": OutputFormat(
            target="medground.grounding.structured_report:write",
            help="one structured report per DICOM image, in the folder -o",
            one_per_image=True,
            check="medground.grounding.dicom_source:refuse_other",
        ),
        "dicom-seg": OutputFormat(
            target="medground.grounding.segmentation:write",
            help="one segmentation per DICOM image, in the folder -o",
            one_per_image=True,
            check="medground.grounding.dicom_source:refuse_other",
        ),
    },
)
