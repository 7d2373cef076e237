"""From examples to a trained model: what `pretrain` and `finetune` run."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from medground import console, leakage
from medground.data import collate, packed, vocabulary
from medground.data.examples import Example
from medground.data.feature_maps import FeatureMaps
from medground.data.image_store import ImageStore
from medground.data.long_texts import LongTexts
from medground.data.report_targets import Needs
from medground.errors import MedgroundError
from medground.models import grounder
from medground.models.network import Network
from medground.objectives import distributed, saved_heads
from medground.objectives.learner import Learner
from medground.training import loop, validation
from medground.training.engine import opened_engine
from medground.training.optim import Schedule, build_optimizer, freeze, norms_of
from medground.training.run_dir import RunFolder
from medground.training.stepper import Stepper
from medground.training.stop import StopRequest

log = logging.getLogger(__name__)
COMPILER = "inductor"  # the default backend of torch.compile
LAYERS = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
SHAPE = ("norm", "padding", "image_size", "text_tokens", "text_layers", "sum_word_pieces")
NOT_THE_RUN = {
    "device",
    "tracker",
    "cache",
    "feature_maps",
    "loader_threads",
}  # these do not change the trained model


@dataclass(frozen=True, kw_only=True)
class Options(Schedule):
    """Settings of a training run, named like the long flags; the commands have the defaults."""

    model_size: str | None  # None if the model to start from has another shape
    architecture: str
    objective: tuple[str, ...]
    loss_weight: dict[str, float]
    image_encoder: str | None
    text_encoder: str | None
    batch_size: int
    max_terms: int
    max_sentences: int
    seed: int
    device: str
    precision: str
    augment: str
    norm: str | None = None  # these and the next ones are None for the model's own
    padding: str | None = None
    image_size: int | None = None
    text_tokens: int | None = None
    text_layers: int | None = None
    num_queries: int | None = None
    sum_word_pieces: bool = False
    hflip_prob: float = 0.0
    sides_apart: bool = False
    compile: bool = False
    tracker: str | None = None
    cache: Path | None = None
    feature_maps: Path | None = None
    loader_threads: int = 1
    freeze: tuple[str, ...] = ()
    negative_prob: float = 0.0
    rehearse_images: int = 0
    rehearse_terms: int = 0
    rehearse_sentences: int = 0


@dataclass(frozen=True, kw_only=True)
class Material:
    """The data of a run. `chosen` says how the examples were chosen; it is kept in config.toml.

    `leakage`: whether subjects of validation or test are known to be among the training subjects. `record`:
    whether the model records its training subjects.
    """

    examples: Sequence[Example]
    validation: Sequence[Example] = ()
    rehearsal: Sequence[Example] = ()  # pairs of pre-training to replay
    leakage: bool = False
    record: bool = True
    chosen: Mapping[str, Any] = field(default_factory=dict)

    def usable(self, needs: Needs) -> "Material":
        """Return it without images that have no query; raise MedgroundError if none is left."""
        examples, rehearsal = (packed.with_queries(some) for some in (self.examples, self.rehearsal))
        if not examples:
            raise MedgroundError("nothing to train on: no image has a phrase or a region with a box")
        return replace(self, examples=needs.met_by(examples), rehearsal=rehearsal)

    def seen(self) -> Iterator[Example]:
        """Yield all examples that the model is trained on."""
        return chain(self.examples, self.rehearsal)

    def heads(self) -> Iterator[Any]:
        """Yield the same without their queries."""
        return chain(packed.heads(self.examples), packed.heads(self.rehearsal))


def fit(
    material: Material,
    images: Path,
    folder: Path,
    options: Options,
    start: Path | None = None,
    overwrite: bool = False,
) -> bool:
    """Train on the material and leave the model in `folder`; return True when done, False when stopped.

    Keeps the best model by mean IoU on the validation examples, or the last one without them. `start` is the
    folder of the model to start from; None builds a new one. `overwrite` forgets a run with other settings.
    """
    with StopRequest() as stop:
        needs = Needs.of(options.objective)
        material = material.usable(needs)
        _check_validation(material, options)
        with opened_engine(options.device, options.precision, options.tracker, folder) as engine:
            _check_share(options, engine.num_processes)
            torch.manual_seed(options.seed)  # before the model, as its building draws numbers too
            loaded = _loaded(start, options) if start else None
            with engine.main_process_first():
                first = engine.is_main_process  # the others neither write settings nor compare them
                settings = _settings(material, options, loaded) if first else {}
                run = RunFolder(folder, settings, overwrite, first)
            record = leakage.new_record(material.heads(), start, material.leakage, material.record)
            model = loaded or _new_model(material, needs, options)
            model = replace(model, config=replace(model.config, sides_apart=options.sides_apart))
            store = _store(material, images, model.config.image_size, options.cache)
            learner = Learner(model, options.objective, options.loss_weight)
            if not loaded:
                distributed.share_norms(learner, engine.device)
            frozen = freeze(model.network, options.freeze)
            if loaded:  # the statistics of pre-training saw more images
                frozen += norms_of(learner)
            learned = _mapped(material, images, options, model, engine) or store
            stepper = _stepper(learner, options, engine, frozen)
            batches = _batches(material, options, learned, model, needs, engine)
            checkpoint = _checkpoint(material, store, model, learner, record, folder)
            how = loop.Settings(
                loader_threads=options.loader_threads,
                memory_advice=_memory_advice(options, engine.num_processes),
            )
            return loop.train(stepper, batches, checkpoint, run, stop, how)


def _check_validation(material: Material, options: Options) -> None:
    """Warn if no phrase can be validated on; raise MedgroundError if --patience needs one."""
    if validation.with_boxes(material.validation):
        return
    if options.patience:
        raise MedgroundError("--patience counts validations, but no validation phrase has a box")
    if material.validation:
        log.warning("no validation phrase has a box: the last model is kept, not the best one")


def _check_share(options: Options, processes: int) -> None:
    """Raise MedgroundError if a micro-batch would have no image."""
    parts = processes * options.micro_batches
    if options.batch_size < parts:
        raise MedgroundError(
            f"--batch-size {options.batch_size} is too small for {parts} micro-batches "
            "(processes x --micro-batches)"
        )


def _stepper(learner: Learner, options: Options, engine: Accelerator, frozen: Sequence[nn.Module]) -> Stepper:
    """Return the learner with its optimizer; every process builds the same."""
    optimizer = build_optimizer(learner, options)
    stepper = Stepper(engine, learner, optimizer, options, seed=options.seed, frozen=frozen)
    for part in _compilable(learner.network) if options.compile else ():
        part.compile(backend=COMPILER, dynamic=True)  # every batch has its own numbers of phrases and boxes
    return stepper


def _checkpoint(
    material: Material,
    store: ImageStore,
    model: grounder.Grounder,
    learner: Learner,
    record: Mapping[str, Any],
    folder: Path,
) -> loop.Checkpoint:
    """Return how a network is validated, and saved in the folder together with its heads."""

    def keep(network: Any, step: int) -> None:
        saved = grounder.save(folder, replace(model, network=network), {**record, "step": step})
        saved_heads.save(folder, learner.objectives, saved.name)

    measured = validation.with_boxes(material.validation)
    validate = validation.over_phrases(measured, store, model) if measured else None
    return loop.Checkpoint(validate=validate, keep=keep)


def _memory_advice(options: Options, processes: int) -> str:
    """Return the option that saves memory: more micro-batches if there can be more, else a smaller batch."""
    more = 2 * options.micro_batches
    if options.batch_size >= processes * more:
        return f"give --micro-batches {more} (same gradient, less memory) or a smaller --batch-size"
    return "give a smaller --batch-size, or fewer --max-terms and --max-sentences"


def _compilable(network: Network) -> Iterator[nn.Module]:
    """Yield the parts that torch.compile makes faster: the encoders and the transformer layers."""
    yield from (network.image_encoder, network.text_encoder)
    yield from (each for each in network.modules() if isinstance(each, LAYERS))


def _store(material: Material, images: Path, size: int, cache: Path | None) -> ImageStore:
    """Return the store of all images of the run; raise MedgroundError if one is missing."""
    store = ImageStore(images, size, cache=cache)
    paths = [each.path for each in chain(material.heads(), material.validation)]
    store.require(paths)
    if lacking := store.uncached(set(paths)):
        log.warning("%d images are not in %s; they are loaded from their files", lacking, cache)
    return store


def _mapped(
    material: Material, images: Path, options: Options, model: grounder.Grounder, engine: Accelerator
) -> FeatureMaps | None:
    """Return the feature maps of all training images, None without a folder; process 0 computes them."""
    if options.feature_maps is None:
        return None
    early = "image-encoder" not in options.freeze
    model.network.image_encoder.to(engine.device)
    with engine.main_process_first():
        maps = FeatureMaps(options.feature_maps, images, model.network, model.config.image_size, early)
        maps.add(
            [each.path for each in material.heads()],
            lambda found, count: console.progress(found, "batches of feature maps", count),
        )
    return maps


def _batches(
    material: Material,
    options: Options,
    store: ImageStore | FeatureMaps,
    model: grounder.Grounder,
    needs: Needs,
    engine: Accelerator,
) -> Callable[[int], collate.Batch]:
    """Return the function of a step that makes this process's batch, with replayed examples."""
    plan = collate.Plan(
        images=options.batch_size,
        terms=options.max_terms if needs.fuses else 0,
        sentences=options.max_sentences if needs.fuses else 0,
        seed=options.seed,
        views=options.augment,
        flip_prob=options.hflip_prob,
        negatives=options.negative_prob,
        always=needs.always,
        on_device=engine.device.type == "cuda",
    )
    tokenize = _fitted(material, model, engine.is_main_process)
    replayed = None
    if material.rehearsal and options.rehearse_images:
        own = replace(
            plan,
            images=options.rehearse_images,
            terms=options.rehearse_terms,
            sentences=options.rehearse_sentences,
            seed=options.seed + 1,  # so that no image shares its random numbers with an example
        )
        replayed = collate.Batches(material.rehearsal, store, tokenize, own)
    batches = collate.Batches(material.examples, store, tokenize, plan, replayed)
    rank, world, pins = engine.process_index, engine.num_processes, engine.device.type == "cuda"

    def at(step: int) -> collate.Batch:
        batch = batches.at(step, rank, world)
        return batch.pinned() if pins else batch  # a GPU copies pinned memory while it computes

    return at


def _fitted(material: Material, model: grounder.Grounder, warns: bool) -> Callable[[list[str]], Any]:
    """Return the model's `tokenize`, with shorter forms of training texts that are too long; warn of them."""
    long_texts = LongTexts(model.tokenizer, model.config.text_tokens)
    long_texts.take(sorted(packed.all_texts(material.examples) | packed.all_texts(material.rehearsal)))
    if warns:
        long_texts.warn("training texts")
    short = long_texts.short
    return lambda texts: model.tokenize([short.get(text, text) for text in texts])


def _loaded(start: Path, options: Options) -> grounder.Grounder:
    """Return the model to start from; raise MedgroundError if its architecture is not that of the options."""
    model = grounder.load(start)
    if (own := model.config.architecture) != options.architecture:
        raise MedgroundError(f"{start}: holds a {own}, not a {options.architecture}")
    if options.padding:
        model.network.padding = options.padding
        return replace(model, config=replace(model.config, padding=options.padding))
    return model


def _new_model(material: Material, needs: Needs, options: Options) -> grounder.Grounder:
    """Return a new model of the options, with the words of `data.vocabulary`."""
    assert options.model_size  # the commands have a default
    words: list[str] = []  # a pre-trained text encoder has its own vocabulary
    if options.text_encoder is None:
        words = vocabulary.words_for(material.seen(), needs.always or ())
    names = ("architecture", "image_encoder", "text_encoder", *SHAPE)
    given = {name: getattr(options, name) for name in names}
    return grounder.build(options.model_size, words, queries=options.num_queries, **given)


def _settings(material: Material, options: Options, start: grounder.Grounder | None) -> dict[str, Any]:
    """Return what identifies a run; the device and the places of files do not."""
    settings = {key: value for key, value in asdict(options).items() if key not in NOT_THE_RUN}
    if start is not None:
        settings["init_from"] = start.name
    if options.feature_maps is not None:
        settings["feature_maps"] = "half precision"
    digests = {
        name: packed.digest(getattr(material, name)) for name in ("examples", "validation", "rehearsal")
    }
    return settings | dict(material.chosen) | digests
