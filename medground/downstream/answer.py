"""The stage of `medground answer`: questions and images -> trained heads -> predicted answers."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from medground import checkpoints, leakage
from medground.downstream import answer_classes, answer_head, answer_writer
from medground.downstream.answer_classes import ClassTask
from medground.downstream.answer_fit import Plan, Task, Training
from medground.downstream.answer_head import HeadFile, Run
from medground.downstream.answer_inputs import ATTENDED, Inputs, Progress
from medground.downstream.answer_writer import WriterTask
from medground.downstream.question_table import Classes, QuestionTable
from medground.errors import MedgroundError
from medground.objectives.writer import Writer
from medground.records import Answer, Question

DIGITS = 6
CLASSES, TEXT = KINDS = ("classes", "text")
Filled = TypeVar("Filled", bound=nn.Module)
Found = Iterable[tuple[str, float | None]]  # the answer to each question, and its probability


def settings(inputs: Inputs, table: QuestionTable, plan: Plan, kind: str, images: Path) -> dict[str, Any]:
    """Return the JSON values that decide the result of a training, except the seed. images: their folder."""
    given = asdict(plan) | {"freeze": sorted(plan.freeze)}
    return {
        "model": inputs.model.name,
        "questions": table.digest(),
        "images": None if inputs.blank else table.images_digest(images),
        "head_type": kind,
        "text_tokens": inputs.text_tokens,
        "layer": inputs.layer,
        "blank_images": inputs.blank,
    } | given


def fit(
    table: QuestionTable,
    inputs: Inputs,
    plan: Plan,
    held: HeadFile,
    seeds: Sequence[int],
    folder: Path,
    save: Callable[[HeadFile], None],
    progress: Progress,
) -> None:
    """Add a run for each seed that `held` has no run of; `save` is called after each of them.

    folder: of the model, whose writer is the start of a head for text.
    """
    if not (missing := [seed for seed in seeds if seed not in {each.seed for each in held.runs}]):
        return
    make = _tasks(table, inputs, plan, held, folder, progress)
    network = inputs.model.network
    before = {name: each.detach().clone() for name, each in network.state_dict().items()}
    for seed in missing:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            run = Training(plan, make()).run(seed, progress)
        network.load_state_dict(before)
        held.runs.append(run)
        held.runs.sort(key=lambda each: each.seed)
        save(held)


def _tasks(
    table: QuestionTable, inputs: Inputs, plan: Plan, held: HeadFile, folder: Path, progress: Progress
) -> Callable[[], Task]:
    """Return a function that makes a new head and its task."""
    train, val = table.parts["train"], table.parts["val"]
    if held.settings["head_type"] == TEXT:
        return lambda: WriterTask(inputs, answer_writer.new(inputs.model, folder), train, val)
    features = None
    if plan.is_frozen and inputs.layer not in ATTENDED:
        both = [answer_classes.computed(inputs, each, plan.batch_size, progress) for each in (train, val)]
        features = (both[0], both[1])
    count = len(held.classes.names)
    return lambda: ClassTask(
        inputs, answer_classes.new(inputs, held.shape, count), train, val, held.classes, features
    )


def new(
    table: QuestionTable, classes: Classes, inputs: Inputs, plan: Plan, kind: str, images: Path
) -> HeadFile:
    """Return the file of a training without any run. images: the folder of the questions' images."""
    record = leakage.new_record(table.parts["train"], None, table.leaks)
    shape = shape_of(inputs, table.questions[0]) if kind == CLASSES else []
    return HeadFile(classes, shape, settings(inputs, table, plan, kind, images), record)


@torch.inference_mode()
def shape_of(inputs: Inputs, question: Question) -> list[int]:
    """Return the width [E] of the joint features, or [P, C] of the patches for a head with attention."""
    inputs.model.network.eval()
    batch = inputs.batch([question])
    if inputs.layer in ATTENDED:
        return [*inputs.encoded(batch).patches.shape[1:]]
    return [*inputs.features(batch).shape[1:]]


def refuse_other(held: HeadFile, wanted: dict[str, Any], path: object) -> None:
    """Raise MedgroundError if heads were trained with other settings."""
    keys = sorted(held.settings.keys() | wanted.keys())
    if other := [key for key in keys if held.settings.get(key) != wanted.get(key)]:
        raise MedgroundError(f"{path}: heads of another {other[0]}; name another file or delete it")


def predict(
    held: HeadFile,
    runs: Sequence[Run],
    inputs: Inputs,
    questions: Sequence[Question],
    batch_size: int,
    progress: Progress,
) -> Iterator[tuple[Question, Answer]]:
    """Yield each question with its answer, run by run."""
    network = inputs.model.network
    before = {name: each.detach().clone() for name, each in network.state_dict().items()}
    features: dict[str, torch.Tensor] = {}  # of the network as it was given
    for run in runs:
        trained = answer_head.part(run.weights, "network")
        network.load_state_dict(before | trained)
        network.eval()
        if trained:
            features.clear()
        found = _found(held, run, inputs, questions, batch_size, features, progress)
        for question, (text, score) in zip(questions, found, strict=True):
            yield question, _answer(question, text, score, inputs.model.name, run.seed)
    network.load_state_dict(before)


def _found(
    held: HeadFile,
    run: Run,
    inputs: Inputs,
    questions: Sequence[Question],
    batch_size: int,
    features: dict[str, torch.Tensor],
    progress: Progress,
) -> Found:
    """Return the answers of a run; `features` keeps the joint features of the questions."""
    if held.settings["head_type"] == TEXT:
        writer = _filled(Writer(inputs.model), run).to(inputs.model.device)
        texts = answer_writer.written(inputs, writer, questions, batch_size, progress)
        return [(text, None) for text in texts]
    head = _filled(answer_classes.new(inputs, held.shape, len(held.classes.names)), run)
    if isinstance(head, answer_classes.AttentionHead):
        head.to(inputs.model.device)
        logits = answer_classes.scores(inputs, head, questions, batch_size, progress)
    else:
        if not features:
            features["all"] = answer_classes.computed(inputs, questions, batch_size, progress)
        with torch.inference_mode():
            logits = head(features["all"])
    scores, best = logits.sigmoid().max(dim=1)
    shown = [held.classes.shown[place] for place in best.tolist()]
    return zip(shown, scores.tolist(), strict=True)


def _filled(head: Filled, run: Run) -> Filled:
    """Return the head with the weights of the run, in evaluation mode."""
    checkpoints.fit(head, answer_head.part(run.weights, "head"), Path("the head"))
    return head.eval()


def _answer(question: Question, answer: str, score: float | None, model: str, seed: int) -> Answer:
    split = {"split": question.split} if question.split else {}
    return Answer(
        image_id=question.image_id,
        question_id=question.question_id,
        answer=answer,
        score=None if score is None else round(score, DIGITS),
        model=model,
        extra=question.extra | split | {"seed": seed},
    )
