"""The stage of `medground answer`: questions and images -> trained heads -> predicted answers."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import torch

from medground import leakage
from medground.downstream import answer_fit, answer_head
from medground.downstream.answer_fit import Plan, Progress, Trained
from medground.downstream.answer_head import Head, HeadFile, Run
from medground.downstream.answer_inputs import Inputs
from medground.downstream.question_table import Classes, QuestionTable
from medground.errors import MedgroundError
from medground.records import Answer, Question

log = logging.getLogger(__name__)
DIGITS = 6


def settings(inputs: Inputs, table: QuestionTable, plan: Plan) -> dict[str, Any]:
    """Return the JSON values that decide the result of a training, except the seed."""
    given = asdict(plan) | {"freeze": sorted(plan.freeze)}
    return {
        "model": inputs.model.name,
        "questions": table.digest(),
        "text_tokens": inputs.text_tokens,
        "fused": inputs.fused,
        "blank_images": inputs.blank,
    } | given


def fit(
    table: QuestionTable,
    inputs: Inputs,
    plan: Plan,
    held: HeadFile,
    seeds: Sequence[int],
    save: Callable[[HeadFile], None],
    progress: Progress,
) -> None:
    """Add a run for each seed that `held` has no run of; `save` is called after each of them."""
    if not (missing := [seed for seed in seeds if seed not in {each.seed for each in held.runs}]):
        return
    train, val = (answer_fit.given(table.parts[name], held.classes) for name in ("train", "val"))
    features = None
    if plan.is_frozen:
        both = [answer_fit.computed(inputs, e.questions, plan.batch_size, progress) for e in (train, val)]
        features = (both[0], both[1])
    network = inputs.model.network
    before = {name: each.detach().clone() for name, each in network.state_dict().items()}
    for seed in missing:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            head = Head(held.width, len(held.classes.names))
            if features is not None:
                head.standardize(features[0])
            head.to(inputs.model.device)
            run = Trained(plan, inputs, head, train, val, features).run(seed, progress)
        network.load_state_dict(before)
        held.runs.append(run)
        held.runs.sort(key=lambda each: each.seed)
        save(held)


def new(table: QuestionTable, classes: Classes, inputs: Inputs, plan: Plan) -> HeadFile:
    """Return the file of a training without any run."""
    record = leakage.new_record(table.parts["train"], None, table.leaks)
    return HeadFile(classes, width_of(inputs, table.questions[0]), settings(inputs, table, plan), record)


@torch.inference_mode()
def width_of(inputs: Inputs, question: Question) -> int:
    """Return the width E of the joint features."""
    inputs.model.network.eval()
    return int(inputs.features(inputs.batch([question])).shape[1])


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
    features = None
    for run in runs:
        head = answer_head.of_run(run, held.width, len(held.classes.names), "the head")
        trained = answer_head.part(run.weights, "network")
        if trained or features is None:
            network.load_state_dict(before | trained)
            features = answer_fit.computed(inputs, questions, batch_size, progress)
        with torch.inference_mode():
            scores, best = head(features).sigmoid().max(dim=1)
        for question, score, place in zip(questions, scores.tolist(), best.tolist(), strict=True):
            yield question, _answer(question, held.classes.shown[place], score, inputs.model.name, run.seed)
    network.load_state_dict(before)


def _answer(question: Question, answer: str, score: float, model: str, seed: int) -> Answer:
    split = {"split": question.split} if question.split else {}
    return Answer(
        image_id=question.image_id,
        question_id=question.question_id,
        answer=answer,
        score=round(score, DIGITS),
        model=model,
        extra=question.extra | split | {"seed": seed},
    )
