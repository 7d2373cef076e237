"""A whole evaluation: files in, scores out, with the cases behind them where they are phrases."""

import itertools
import typing
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

import medground
from medground import jsonl, leakage, registry
from medground.evaluation import anatomy, baseline, coverage, heatmaps, robustness
from medground.evaluation.cases import Case, Cases
from medground.evaluation.inputs import files, predictions
from medground.evaluation.protocols import Protocol, named
from medground.evaluation.report import anatomy_pictures, heatmap_pictures
from medground.evaluation.report.anatomy_pictures import AnatomyImage
from medground.evaluation.report.heatmap_pictures import Hot
from medground.evaluation.stats import groups, scoring
from medground.evaluation.stats.groups import Groups
from medground.evaluation.stats.scoring import Measured, Resampling
from medground.jsonl import BadLines
from medground.records import Anatomy, Box, Grounding, Phrase, Score, ScoredBox

Answers = dict[files.Key, Grounding]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """The open files of an evaluation and how to take them.

    `model` is the folder of the model that answered: whom it was trained on must not be scored.
    A format is one that `predictions` reads, with one of `frames` (None: its own). With `split`, only that
    split of the truth is scored, and only the split `train` of `train` is used.
    """

    predictions: BinaryIO
    truth: BinaryIO
    train: BinaryIO | None = None
    compare: BinaryIO | None = None
    model: Path | None = None
    split: str | None = None
    allow_leakage: bool = False
    format: tuple[str, str | None] = ("jsonl", None)
    compare_format: tuple[str, str | None] = ("jsonl", None)
    bad_lines: BadLines = field(default_factory=BadLines)


class Source(typing.Protocol):
    """Anything that knows the hash of what was read from it."""

    @property
    def digest(self) -> str:
        """The first 12 hexadecimal digits of a SHA-256."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """All files read and checked: phrases with the answers of the model and of another one, if given.

    origin: what each Score says of where it comes from.
    """

    own: list[Case]
    other: list[Case] | None
    train: list[Phrase] | None
    origin: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One protocol's scores, and the cases behind them in the order of the truth: phrases, or films."""

    protocol: str
    scores: list[Score]
    own: Sequence[Case] = ()
    other: Sequence[Case] | None = None
    films: Sequence[AnatomyImage] = ()
    probed: Sequence[robustness.Answer] = ()
    hot: Sequence[Hot] = ()


def evaluate_files(inputs: Inputs, names: Iterable[str], how: Resampling) -> list[Evaluation]:
    """The evaluation by each of the named protocols; those that read no phrases are given the files."""
    names = list(names)
    first = registry.PROTOCOLS[names[0]]
    if first.reads != "phrases":
        return [first.load()(inputs, how)]
    loaded = load(inputs)
    return [*evaluate_all(loaded, names, how), *evaluate_coverage(loaded, how)]


def evaluate_coverage(loaded: Loaded, how: Resampling) -> list[Evaluation]:
    """Whether boxes that state a coverage keep it; nothing where none is stated."""
    if coverage.KEY not in loaded.origin:
        return []
    (scores,) = _scores([coverage.measure(loaded.own)], loaded.origin, how)
    return [Evaluation(coverage.KEY, scores)]


def load(inputs: Inputs) -> Loaded:
    """Read every file once; raises where patients leak from training to truth."""
    streams = _streams(inputs)
    truth = files.read_truth(streams["truth"], inputs.bad_lines)
    scored = truth.of_split(inputs.split)
    train = _train(streams.get("train"), scored, inputs)
    answers: dict[str, Answers] = {
        name: predictions.read(streams[name], *how, truth.known, inputs.bad_lines)
        for name, how in (("predictions", inputs.format), ("compare", inputs.compare_format))
        if name in streams
    }
    all_answers = itertools.chain.from_iterable(each.values() for each in answers.values())
    leaky = _audit(inputs, train, truth.drawn, scored, all_answers)
    models = {grounding.model for grounding in answers["predictions"].values() if grounding.model}
    if inputs.model is not None:
        leakage.warn_of_another_model(inputs.model, models)
    origin = _origin(streams, models, leaky) | coverage.stated(answers["predictions"].values())
    scoring.warn_of_lone_images(scored)
    both = {name: files.cases(scored, each, streams[name].name) for name, each in answers.items()}
    return Loaded(both["predictions"], both.get("compare"), train, origin)


def _streams(inputs: Inputs) -> dict[str, files.Hashed]:
    return {
        name: files.Hashed(stream)
        for name in ("predictions", "truth", "train", "compare")
        if (stream := getattr(inputs, name)) is not None
    }


def _train(stream: files.Hashed | None, scored: Sequence[Phrase], inputs: Inputs) -> list[Phrase] | None:
    if stream is None:
        return None
    train = files.read_truth(stream, inputs.bad_lines).of_split("train" if inputs.split else None)
    files.need_sizes([*train, *scored], lambda: "the image-free prior")
    return train


def _audit(
    inputs: Inputs,
    train: Sequence[Phrase | Anatomy] | None,
    truth: Sequence[Phrase],
    scored: Sequence[Phrase | Anatomy],
    answers: Iterable[Grounding] = (),
) -> bool:
    """True where patients leak: from training, from another split of the truth, from the model's record; and
    where the model, or what it answered, is marked."""
    elsewhere = [phrase for phrase in truth if inputs.split is not None and phrase.split != inputs.split]
    record = leakage.training_record(inputs.model) if inputs.model is not None else {}
    sides = {
        "--train": leakage.Patients.of(train or ()),
        "another split of --truth": leakage.Patients.of(elsewhere),
        "the training data of --model": leakage.Patients.trained(record),
    }
    leaks = [
        leak
        for name, known in sides.items()
        for leak in leakage.overlap(scored, known, f"the scored records and {name}")
    ]
    leaky = leakage.check(leaks, inputs.allow_leakage, "leave them out of one, or give --allow-leakage")
    return leaky | leakage.is_marked(record, answers)


def _origin(sources: Mapping[str, Source], models: Iterable[str], leaky: bool) -> dict[str, Any]:
    """What each score says of where it comes from; only once the files have been read."""
    hashes = {name: f"sha256:{source.digest}" for name, source in sources.items()}
    said = {"model": ",".join(sorted(models))} if models else {}
    return hashes | said | {"medground": medground.__version__} | ({"leakage": True} if leaky else {})


def _scores(measured: Sequence[Measured], origin: dict[str, Any], how: Resampling) -> list[list[Score]]:
    whole = how.origin | origin | {"draws": how.draws, "seed": how.seed}
    return scoring.score_all(measured, Resampling(how.draws, how.seed, whole))


def evaluate_all(loaded: Loaded, names: Sequence[str], how: Resampling) -> list[Evaluation]:
    """The scores of each of the protocols over the phrases that it takes, all from the same draws."""
    phrases = [case.phrase for case in loaded.own]
    owners = scoring.clusters(phrases)
    taken = {name: np.array([named(name).takes(each) for each in phrases], dtype=bool) for name in names}
    parts = {mask.tobytes(): _part(loaded, mask, owners) for mask in taken.values()}
    used = [parts[taken[name].tobytes()] for name in names]
    measured = [_measured(name, part, loaded) for name, part in zip(names, used, strict=True)]
    scores = _scores(measured, loaded.origin, how)
    rows = zip(names, scores, used, strict=True)
    return [Evaluation(name, found, part.own, part.other) for name, found, part in rows]


@dataclass(frozen=True, slots=True)
class Part:
    """The cases that some protocols take, of the model and of another one, and whose they are."""

    own: Cases
    other: Cases | None
    groups: Groups
    owners: NDArray[np.int64]
    clusters: int
    priors: dict[bytes, Cases] = field(default_factory=dict)


def _part(loaded: Loaded, mask: NDArray[np.bool_], owners: NDArray[np.int64]) -> Part:
    own, other = (
        None if cases is None else Cases(list(itertools.compress(cases, mask)))
        for cases in (loaded.own, loaded.other)
    )
    assert own is not None  # there always is a model
    parted = groups.of_phrases([case.phrase for case in own])
    return Part(own, other, parted, owners[mask], int(owners.max(initial=-1)) + 1)


def _measured(name: str, part: Part, loaded: Loaded) -> Measured:
    protocol = named(name)
    prior_cases = _prior_cases(protocol, loaded.train, part)
    return Measured(
        protocol=name,
        groups=part.groups,
        owners=part.owners,
        counts=part.groups.counts,
        own=protocol.measure(part.own),
        prior=None if prior_cases is None else protocol.measure(prior_cases),
        other=None if part.other is None else protocol.measure(part.other),
        clusters=part.clusters,
    )


def evaluate_anatomy(inputs: Inputs, how: Resampling) -> Evaluation:
    """The scores of named regions; every file holds Anatomy records."""
    streams = _streams(inputs)
    truth = anatomy.read_truth(streams["truth"], inputs.bad_lines)
    train = anatomy.read_truth(streams["train"], inputs.bad_lines) if "train" in streams else None
    leaky = _audit(inputs, train, (), truth)
    own, other = (
        anatomy.read_answers(streams[name], inputs.bad_lines, truth) if name in streams else None
        for name in ("predictions", "compare")
    )
    scoring.warn_of_lone_images(truth)
    origin = _origin(streams, (), leaky)
    measured = [
        anatomy.measure(truth, own or {}, train, other),
        *anatomy.measure_sanity(truth, own or {}, other),
    ]
    scores = [score for each in _scores(measured, origin, how) for score in each]
    return Evaluation("anatomy", scores, films=anatomy_pictures.films(truth, own or {}, other))


def evaluate_heatmaps(inputs: Inputs, how: Resampling) -> Evaluation:
    """The scores of heat maps, whose files `predictions` and `compare` name."""
    with ExitStack() as stack:
        maps = {
            name: stack.enter_context(heatmaps.opened(Path(jsonl.name_of(stream))))
            for name, stream in (("predictions", inputs.predictions), ("compare", inputs.compare))
            if stream is not None
        }
        return _evaluate_maps(inputs, maps, how)


def _evaluate_maps(inputs: Inputs, maps: dict[str, heatmaps.Maps], how: Resampling) -> Evaluation:
    streams = {name: each for name, each in _streams(inputs).items() if name not in maps}
    truth = files.read_truth(streams["truth"], inputs.bad_lines)
    scored = [phrase for phrase in truth.of_split(inputs.split) if phrase.boxes]
    files.need_sizes(scored, lambda: "the protocol heatmap")
    for each in maps.values():
        each.check(truth.known, scored)
    train = _train(streams.get("train"), scored, inputs)
    leaky = _audit(inputs, train, truth.drawn, scored)
    scoring.warn_of_lone_images(scored)
    parted = groups.of_phrases(scored)
    found = {name: heatmaps.measure(scored, each) for name, each in maps.items()}
    measured = Measured(
        protocol="heatmap",
        groups=parted,
        owners=scoring.clusters(scored),
        counts=parted.counts,
        own=found["predictions"].figures(),
        prior=heatmaps.box_figures(scored, _prior_boxes(train, scored)) if train is not None else None,
        other=found["compare"].figures() if "compare" in found else None,
    )
    (scores,) = _scores([measured], _origin({**maps, **streams}, (), leaky), how)
    hot = heatmap_pictures.choose(scored, maps, {name: each.ious for name, each in found.items()})
    return Evaluation("heatmap", scores, hot=hot)


def _prior_boxes(train: Sequence[Phrase], scored: Sequence[Phrase]) -> list[Box]:
    fitted = baseline.fit_phrases(train) if scored else None
    return [_answer(fitted, phrase).box for phrase in scored if fitted]


def _prior_cases(protocol: Protocol, train: list[Phrase] | None, part: Part) -> Cases | None:
    """The prior's answer to each case, fitted on the training phrases that the protocol would score."""
    if train is None or not len(part.own):
        return None
    used = bytes(protocol.takes(phrase) for phrase in train)
    if used not in part.priors:
        fitted = baseline.fit_phrases(itertools.compress(train, used))
        answers = [Case(case.phrase, [_answer(fitted, case.phrase)]) for case in part.own]
        part.priors[used] = Cases(answers)
    return part.priors[used]


def _answer(fitted: baseline.Prior, phrase: Phrase) -> ScoredBox:
    return ScoredBox(box=_answer_of(fitted, phrase, phrase.width or 1, phrase.height or 1), score=1.0)


def _answer_of(fitted: baseline.Prior, phrase: Phrase, width: int, height: int) -> Box:
    return fitted.answer(baseline.cell_of(phrase), width, height)


def evaluate_probes(
    inputs: Inputs, load: robustness.Load, ground: robustness.Ground, how: Resampling
) -> Evaluation:
    """The scores of a model on the phrases of `truth` that have boxes, under each probe; `ground` asks it."""
    stream = files.Hashed(inputs.truth)
    truth = files.read_truth(stream, inputs.bad_lines)
    scored = [each for each in truth.of_split(inputs.split) if each.boxes]
    train_stream = files.Hashed(inputs.train) if inputs.train else None
    train = _train(train_stream, scored, inputs)
    leaky = _audit(inputs, train, truth.drawn, scored)
    scoring.warn_of_lone_images(scored)
    fitted = baseline.fit_phrases(train) if train else None
    place = {path: number for number, path in enumerate(dict.fromkeys(each.path for each in scored))}
    found = list(robustness.probe(sorted(scored, key=lambda each: place[each.path]), load, ground))
    measured = robustness.measure(found, None if fitted is None else partial(_answer_of, fitted))
    sources = {"truth": stream} | ({"train": train_stream} if train_stream else {})
    (scores,) = _scores([measured], _origin(sources, {each.model for each in found}, leaky), how)
    return Evaluation("probes", [score for score in scores if score.value is not None], probed=found)
