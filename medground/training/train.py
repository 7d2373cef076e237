"""From examples to a trained model: what `pretrain` and `finetune` ask of the loop."""

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from medground import leakage
from medground.boxes import iou, union
from medground.data import collate
from medground.data.examples import Example, Query, all_texts
from medground.data.image_store import ImageStore
from medground.data.report_targets import Needs
from medground.errors import MedgroundError
from medground.models import grounder
from medground.models.network import best_boxes
from medground.objectives.learner import Learner
from medground.reports.paraphrase import vocabulary
from medground.reports.parser import Parser
from medground.training.freezing import freeze
from medground.training.loop import Job, Schedule, open_engine, train
from medground.training.run_dir import RunFolder
from medground.training.stop import StopRequest

log = logging.getLogger(__name__)
COMPILER = "inductor"  # torch.compile's own
NOT_THE_RUN = {"device", "tracker", "cache", "loader_threads"}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of a training run, named like the long flags; the commands have the defaults."""

    model_size: str | None  # None where a model to go on from has a shape of its own
    architecture: str
    objective: tuple[str, ...]
    loss_weight: dict[str, float]
    image_encoder: str | None
    text_encoder: str | None
    steps: int
    batch_size: int
    max_terms: int
    max_sentences: int
    lr: float
    encoder_lr: float | None
    weight_decay: float
    warmup_ratio: float
    save_every: int
    seed: int
    device: str
    precision: str
    augment: str
    hflip_prob: float = 0.0
    sides_apart: bool = False
    log_every: int = 20
    lr_schedule: str = "cosine"
    max_grad_norm: float = 1.0
    micro_batches: int = 1
    ema_decay: float | None = None
    patience: int | None = None
    compile: bool = False
    tracker: str | None = None
    cache: Path | None = None
    loader_threads: int = 1
    freeze: tuple[str, ...] = ()
    negative_prob: float = 0.0
    rehearse_images: int = 0
    rehearse_terms: int = 0
    rehearse_sentences: int = 0


@dataclass(frozen=True, kw_only=True)
class Material:
    """What a run learns from: examples, those that it is validated on, those it rehearses beside them, and
    whether patients of validation or test are known to be among the ones it has seen. `chosen` says how the
    examples were chosen, for people: config.toml keeps it."""

    examples: Sequence[Example]
    validation: Sequence[Example] = ()
    rehearsal: Sequence[Example] = ()
    leakage: bool = False
    chosen: Mapping[str, Any] = field(default_factory=dict)

    def usable(self) -> "Material":
        """Without images that nothing is asked of; raises MedgroundError where none is left."""
        if not (examples := _asked(self.examples)):
            raise MedgroundError("nothing to train on: no image has a phrase or a region with a box")
        return replace(self, examples=examples, rehearsal=_asked(self.rehearsal))

    def seen(self) -> list[Example]:
        """All that the model is shown to learn from."""
        return [*self.examples, *self.rehearsal]


def _asked(examples: Sequence[Example]) -> list[Example]:
    return [each for each in examples if each.terms or each.sentences]


def fit(
    material: Material,
    images: Path,
    folder: Path,
    options: Options,
    start: Path | None = None,
    overwrite: bool = False,
) -> bool:
    """Train on the material and leave the model in `folder`; True when done, False when stopped after saving.

    With validation examples the best model by their mean IoU is kept, else the last. `start` is the folder
    of the model to go on from; None builds a new one. `overwrite` forgets a run with other settings.
    """
    with StopRequest() as stop:
        material = material.usable()
        material = replace(material, examples=Needs.of(options.objective).met_by(material.examples))
        _check_validation(material, options)
        engine = open_engine(options.device, options.precision, options.tracker, folder)
        try:
            _check_share(options, engine.num_processes)
            with engine.main_process_first():
                first = engine.is_main_process  # the others neither write settings nor compare them
                settings = _settings(material, options, start) if first else {}
                run = RunFolder(folder, settings, overwrite, first)
            return train(_job(material, images, run, options, start, engine), stop)
        finally:
            engine.end_training()


def with_boxes(examples: Sequence[Example]) -> list[Example]:
    """The examples of which a phrase has a box: those that a validation can measure."""
    return [each for each in examples if any(query.boxes for query in each.sentences)]


def _check_validation(material: Material, options: Options) -> None:
    """Say where there is nothing to validate on; raises MedgroundError where patience would count it."""
    if with_boxes(material.validation):
        return
    if options.patience:
        raise MedgroundError("--patience is counted in validations: no phrase with a box validates")
    if material.validation:
        log.warning("no phrase of validation has a box: the last model is kept, not the best one")


def _check_share(options: Options, processes: int) -> None:
    """Raise MedgroundError where a part of a step's batch would be without an image."""
    parts = processes * options.micro_batches
    if options.batch_size < parts:
        raise MedgroundError(
            f"--batch-size {options.batch_size} is too small for {parts} micro-batches "
            "(processes x --micro-batches)"
        )


def _job(
    material: Material,
    images: Path,
    run: RunFolder,
    options: Options,
    start: Path | None,
    engine: Accelerator,
) -> Job:
    """The job of a run folder; every process builds the same."""
    needs = Needs.of(options.objective)
    torch.manual_seed(options.seed)
    model = _model(material, needs, options, start)
    model = replace(model, config=replace(model.config, sides_apart=options.sides_apart))
    checked = with_boxes(material.validation)
    store = ImageStore(images, model.config.image_size, cache=options.cache)
    films = [each.path for each in (*material.seen(), *material.validation)]
    store.require(films)
    if lacking := store.uncached(set(films)):
        log.warning("%d films are not in %s; they are read from their files", lacking, options.cache)
    return Job(
        engine=engine,
        model=model,
        learner=Learner(model, options.objective, options.loss_weight),
        batches=_batches(material, options, store, model, needs),
        schedule=_schedule(options),
        folder=run,
        validate=_validator(checked, store, model) if checked else None,
        seed=options.seed,
        record=leakage.new_record(material.seen(), start, material.leakage),
        frozen=freeze(model.network, options.freeze),
        freeze_norms=start is not None,
        workers=options.loader_threads,
        compiler=COMPILER if options.compile else None,
    )


def _batches(
    material: Material, options: Options, store: ImageStore, model: grounder.Grounder, needs: Needs
) -> collate.Batches:
    """The batches of the examples, with those of rehearsal beside them."""
    plan = collate.Plan(
        images=options.batch_size,
        terms=options.max_terms if needs.fuses else 0,
        sentences=options.max_sentences if needs.fuses else 0,
        seed=options.seed,
        views=options.augment,
        flip_prob=options.hflip_prob,
        negatives=options.negative_prob,
        always=needs.always,
    )
    beside = None
    if material.rehearsal and options.rehearse_images:
        theirs = replace(
            plan,
            images=options.rehearse_images,
            terms=options.rehearse_terms,
            sentences=options.rehearse_sentences,
            seed=options.seed + 1,  # no image shares its random numbers with one of the examples
        )
        beside = collate.Batches(material.rehearsal, store, model.tokenize, theirs)
    return collate.Batches(material.examples, store, model.tokenize, plan, beside)


def _schedule(options: Options) -> Schedule:
    return Schedule(
        steps=options.steps,
        rate=options.lr,
        encoder_rate=options.encoder_lr or options.lr,
        weight_decay=options.weight_decay,
        warmup=options.warmup_ratio,
        save_every=options.save_every,
        log_every=options.log_every,
        fall=options.lr_schedule,
        clip_norm=options.max_grad_norm,
        patience=options.patience,
        average=options.ema_decay,
        parts=options.micro_batches,
    )


def _model(material: Material, needs: Needs, options: Options, start: Path | None) -> grounder.Grounder:
    if start is not None:
        model = grounder.load(start)
        if model.config.architecture != options.architecture:
            raise MedgroundError(
                f"{start}: holds a {model.config.architecture}, not a {options.architecture}"
            )
        return model
    assert options.model_size  # the commands have a default
    # the lexicon's words too: those that reports use, so that few are spelt out in letters later
    texts: list[str] = []  # a pre-trained encoder has its own
    if options.text_encoder is None:
        texts = [*all_texts(material.seen()), *(needs.always or ()), *vocabulary(Parser())]
    encoders = {"image_encoder": options.image_encoder, "text_encoder": options.text_encoder}
    return grounder.build(options.model_size, texts, architecture=options.architecture, **encoders)


def _settings(material: Material, options: Options, start: Path | None) -> dict[str, Any]:
    """What makes two runs the same run; the device does not, nor where films are read from."""
    settings = {key: value for key, value in asdict(options).items() if key not in NOT_THE_RUN}
    if start is not None:
        settings["init_from"] = grounder.name_of(start)
    shown = {name: _digest(getattr(material, name)) for name in ("examples", "validation", "rehearsal")}
    return settings | dict(material.chosen) | shown


FIELDS = {kind: [each.name for each in fields(kind)] for kind in (Example, Query)}


def _digest(examples: Sequence[Example]) -> str:
    """12 hex digits over all examples: of repr([asdict(each) for each in examples]), made one at a time, as
    hundreds of thousands of images would be gigabytes of text."""
    digest = hashlib.sha256(b"[")
    for number, each in enumerate(examples):
        digest.update(f"{', ' if number else ''}{_plain(each)!r}".encode())
    digest.update(b"]")
    return digest.hexdigest()[:12]


def _plain(part: Any) -> Any:
    """What asdict makes of it, without copying what is inside."""
    if type(part) in FIELDS:
        return {name: _plain(getattr(part, name)) for name in FIELDS[type(part)]}
    return [_plain(each) for each in part] if isinstance(part, list) else part


def _validator(
    examples: Sequence[Example], store: ImageStore, model: grounder.Grounder, together: int = 32
) -> Callable[[nn.Module], float]:
    """A function that gives the mean IoU of a network's likeliest boxes, in the images' own pixels.

    The box around all of a phrase's boxes is what counts; of a network that may answer with several boxes,
    the true box that the likeliest one overlaps most.
    """
    several = model.network.most_boxes > 1
    wanted = [(each, [q for q in each.sentences if q.boxes]) for each in examples]
    wanted = [(each, queries) for each, queries in wanted if queries]

    def mean_iou(network: nn.Module) -> float:
        scores = []
        device = next(network.parameters()).device
        for first in range(0, len(wanted), together):
            some = wanted[first : first + together]
            asked = [(each, [(q.texts[0], q.boxes) for q in queries]) for each, queries in some]
            batch = collate.collate(asked, store, model.tokenize).to(device)
            found = best_boxes(network(*batch.inputs())).double().cpu().numpy()
            letterboxes = [collate.load(each, store).letterbox for each, queries in some for _ in queries]
            pixels = np.concatenate([b.restore(row[None]) for b, row in zip(letterboxes, found, strict=True)])
            drawn = [list(q.boxes) for _, queries in some for q in queries]
            truth = [np.array(each if several else [union(each)], dtype=np.float64) for each in drawn]
            scores += [iou(own[None], each).max() for own, each in zip(pixels, truth, strict=True)]
        return float(np.mean(scores))

    return torch.inference_mode()(mean_iou)
