"""The records of medground: the contents of one line of each JSONL file.

Boxes are [x1, y1, x2, y2] in pixels of the original image, origin at the top left, x2 > x1 and y2 > y1.
"Right" is the patient's right: the left half of the image. Spans count code points of the original report;
the end is exclusive. `extra` contains keys that a stage does not use; every stage passes them through. A
field whose default is None is omitted from the line when it is None.
"""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

Existence = Literal["present", "absent", "uncertain"]
RegionSource = Literal["explicit", "inherited", "default", "none"]
Labels = dict[str, Literal[1, 0, -1] | None]
Box = tuple[float, float, float, float]
Span = tuple[int, int]

FRONTAL_VIEWS = {"AP", "PA", "FRONTAL", "ANTERO-POSTERIOR", "POSTERO-ANTERIOR"}


def is_frontal(view: str | None) -> bool:
    """Return True unless the view is known and is neither AP nor PA."""
    return not view or view.upper() in FRONTAL_VIEWS


def check_box(box: Box) -> None:
    """Raise ValueError unless the box is finite and has an area."""
    x1, y1, x2, y2 = box
    if not (-math.inf < x1 < x2 < math.inf and -math.inf < y1 < y2 < math.inf):
        finite = all(map(math.isfinite, box))
        raise ValueError("a box needs x2 > x1 and y2 > y1" if finite else "a box holds four finite numbers")


def check_size(width: int | None, height: int | None) -> None:
    """Raise ValueError for an image without pixels; None is an unknown size."""
    if (width is not None and width < 1) or (height is not None and height < 1):
        raise ValueError("width and height: expected 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One report: written by users, `convert` and write, read by parse-reports and evaluate.

    Either `text`, the whole report, or named sections; `text` is used if both are given. Further keys of
    write: those of the image, `model` (a hash of the weights), and `leakage` if the model's training leaked.
    """

    study_id: str
    subject_id: str | None = None
    text: str | None = None
    findings: str | None = None
    impression: str | None = None
    last_paragraph: str | None = None
    comparison: str | None = None
    indication: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Triplet:
    """<anatomical region, finding, existence>, with the words that state it and the rule that decided."""

    region: str | None
    finding: str
    existence: Existence
    finding_span: Span
    region_span: Span | None
    cue: str | None
    cue_span: Span | None
    region_source: RegionSource
    rule: str
    severity: str | None = None
    change: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """One sentence of a report with its triplets: written by parse-reports, read by align."""

    study_id: str
    sentence_id: str
    section: str
    start: int
    end: int
    text: str
    triplets: list[Triplet]
    subject_id: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """The box of one named region, with a `score` in [0, 1]; 1 if a person or a phantom made the box.

    Around a mask, the score is the mean probability inside; 1 for a binary mask.
    """

    name: str
    box: Box
    score: float = 1.0

    def __post_init__(self) -> None:
        check_box(self.box)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image file: written by users and `convert`, read by detect-anatomy.

    `path` is relative to `--images DIR`. Any record with an `image_id` and a `path` is accepted.
    """

    image_id: str
    path: str
    study_id: str | None = None
    subject_id: str | None = None
    view: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy:
    """The named regions of one image, each at most once: written by detect-anatomy and `convert`.

    detect-anatomy adds `model`: a hash of the detector, or of the settings that turn masks into boxes. Its
    `view` is "other" for an image that is probably not a single upright frontal chest X-ray.
    """

    image_id: str
    study_id: str | None = None
    subject_id: str | None = None
    path: str
    width: int
    height: int
    view: str | None = None
    regions: list[Region]
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_size(self.width, self.height)

    @property
    def is_frontal(self) -> bool:
        """True unless the view is known and is neither AP nor PA."""
        return is_frontal(self.view)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A sentence and the regions it refers to on one image: written by align, read by pretrain.

    `regions` and `region_boxes` have the same order. `box` is computed from them by `rule` (S1, S2, S3).
    """

    image_id: str
    study_id: str
    subject_id: str | None = None
    sentence_id: str
    path: str
    width: int
    height: int
    text: str
    regions: list[str]
    region_boxes: list[Box]
    box: Box
    triplets: list[Triplet]
    rule: str
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_size(self.width, self.height)
        for box in [self.box, *[each for each in self.region_boxes if each != self.box]]:
            check_box(box)
        if len(self.regions) != len(self.region_boxes):
            raise ValueError("regions and region_boxes: expected as many boxes as names")


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrase:
    """A phrase to localize on one image; with `boxes` it is ground truth for finetune and evaluate.

    `boxes` is None if the image is not annotated, and [] if the finding is not visible.
    """

    image_id: str
    phrase_id: str
    subject_id: str | None = None
    path: str
    width: int | None = None
    height: int | None = None
    text: str
    boxes: list[Box] | None = None
    category: str | None = None
    split: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_size(self.width, self.height)
        for box in self.boxes or ():
            check_box(box)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredBox:
    """One predicted box; `score` in [0, 1]."""

    box: Box
    score: float

    def __post_init__(self) -> None:
        check_box(self.box)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grounding:
    """The predicted boxes for a phrase, best first: written by ground, read by evaluate.

    `present` is the predicted probability that the finding is visible. `model` is the hash of the weights.
    Further keys: `calibrated`, the name of the data that `score`, `present` and `coverage` were each fitted
    on; `coverage`, the share of true boxes that the widened boxes contain; `min_score`, `min_present` and
    `engine` (bf16) if they differ from the defaults; `leakage` if the model was trained on its validation or
    test subjects; `view` ("other", or that of the record or file) if the image is probably not a single
    upright frontal chest X-ray; `distance` of the image from those of the calibration, above 1 if it is
    unlike them; `mirrored` if the image was flip-corrected (boxes are on the image as given); `as_hung` if
    flip correction was switched off. A finding of a report has `study_id`, `sentence_id`, `section`, `start`
    and `end` (the sentence's span), `finding`, `regions` and `existence`; an absent one has no boxes and
    `present` 0.
    """

    image_id: str
    phrase_id: str
    text: str
    boxes: list[ScoredBox]
    present: float
    model: str
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """The classes of one image: written by `convert`, read by probe, and by evaluate as truth.

    `labels`: 1 present, 0 absent, -1 uncertain, null not stated. `split_by` names the rule of the split.
    """

    image_id: str
    study_id: str | None = None
    subject_id: str | None = None
    path: str
    view: str | None = None
    labels: Labels
    split: str | None = None
    split_by: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Classification:
    """The predicted score of each class on one image: written by probe, read by evaluate.

    A higher score is more likely present. Further keys of probe: `share` of the training patients, `seed` and
    `fit`. Images have one line for each `share` and `seed`.
    """

    image_id: str
    scores: dict[str, float]
    model: str
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """The mask of one class on one image: written by `convert` and segment, read by both and by evaluate.

    `counts` are COCO's packed run lengths of `height` x `width`; an empty mask is a mask without pixels.
    Further keys of segment: `model` (a hash of the encoder), `share` of the training patients, `seed`,
    `decoder`, `train_images` and the `epoch` that was kept. A mask has one line for each `share` and `seed`.
    """

    image_id: str
    subject_id: str | None = None
    path: str
    width: int
    height: int
    category: str
    counts: str
    split: str | None = None
    split_by: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_size(self.width, self.height)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question about one image, with its true answer if it is known: written by `convert`.

    `answer_type` is "closed" or "open" in the published data sets.
    """

    image_id: str
    question_id: str
    study_id: str | None = None
    subject_id: str | None = None
    path: str
    text: str
    answer: str | None = None
    answer_type: str | None = None
    question_type: str | None = None
    split: str | None = None
    split_by: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The predicted answer to a question: written by answer, read by evaluate.

    `score` is the probability of the answer. Further keys of answer: `seed`, `split`, `head`, and
    `blank_images` if no image was used. Questions have one line for each `seed`.
    """

    image_id: str
    question_id: str
    answer: str
    score: float | None = None
    model: str
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One metric of an evaluation with its 95 % interval: written by evaluate.

    `low` and `high` are null if no interval can be computed. `n` counts phrases, or true boxes of regions.
    Further keys give the metric's origin: `predictions`, `truth`, `train`, `compare` (hashes of the files),
    `model`, `medground`, `draws`, `seed`. `leakage` is set if patients are shared, or were in training. `p`
    belongs to a difference.
    """

    protocol: str
    metric: str
    group: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    extra: dict[str, Any] = field(default_factory=dict)
