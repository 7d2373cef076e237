"""The protocol `answers`: predicted answers to questions against the true ones.

Two answers are equal if `answers.normal` returns the same text for both. Runs with different seeds are
averaged.
accuracy             share of questions whose predicted answer is the true one
accuracy_per_image   mean over images of the accuracy on their questions
reachable            share of questions whose true answer occurs in training; only with training questions

The image-free baseline is the commonest training answer to questions of the same type, or of all types if no
training question has it. Groups: `all`, `answer_type:closed` and `open`, `question_type:NAME`.

The true answers to questions about the difference of two images are sentences. Their figures are bleu1 to
bleu4 and rouge_l, of cleaned words as in the protocol `reports`, in the group `all`. They are left out if the
predictions have none of them. Questions without a true answer are left out. Warnings count both.

Letter: N questions.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medground import published, registry
from medground.answers.normal import normal
from medground.errors import BadRecord, MedgroundError
from medground.evaluation import report_words, sources
from medground.evaluation.image_facts import agreeing
from medground.evaluation.prepared import Kind, Prepared
from medground.evaluation.report.pictures import Galleries, no_galleries
from medground.evaluation.stats import groups, scoring, texts
from medground.evaluation.stats.bootstrap import Array
from medground.evaluation.stats.classes import MeanOf
from medground.evaluation.stats.figures import Ratio, mean_over
from medground.evaluation.stats.scoring import Figures, Measured
from medground.records import Answer, Question

log = logging.getLogger(__name__)
Key = tuple[str, str]
Runs = Mapping[int, Mapping[Key, Answer]]  # the predictions of each seed


@dataclass(kw_only=True)
class AnswerData(Prepared):
    """Questions with true answers, and the runs of a model and of another one.

    known: the training questions, None if they are not given. `train` are those that must not share a patient
    with the scored ones. differences: predicted questions about two images.
    """

    scored: Sequence[Question]
    known: Sequence[Question] | None = None
    own: Runs
    other: Runs | None = None
    differences: Sequence[Question] = ()


def prepare(
    predictions: Iterable[Answer],
    truth: Iterable[Question],
    train: Iterable[Question] | None,
    compare: Iterable[Answer] | None,
    split: str | None,
) -> AnswerData:
    """Return the questions of the split with the answers predicted for them.

    Raises MedgroundError for a question without a prediction, and for training questions without an answer.
    """
    everything = sources.checked(truth, "truth", check_truth())
    part = sources.of_split(everything, split, sources.name_of(truth, "truth"), "question")
    scored = _answered(part)
    elsewhere = sources.outside(everything, split)
    own = sources.checked(predictions, "predictions", check_prediction(everything))
    other = None if compare is None else sources.checked(compare, "compare", check_prediction(everything))
    known = None if train is None else _training(train, split)
    rules = sources.rules(scored, split)
    shares = published.PARTS_SHARE_IMAGES in rules.get("split_by", "")
    if shares:
        _warn_of_shared(scored, known or elsewhere)
    return AnswerData(
        scored=scored,
        differences=_differences(part, [own] if other is None else [own, other]),
        known=known,
        train=None if shares else known,
        elsewhere=[] if shares else elsewhere,
        own=_runs(own, scored, sources.name_of(predictions, "predictions")),
        other=None if other is None else _runs(other, scored, sources.name_of(compare, "compare")),
        predictions=_about(scored, own),
        compared=_about(scored, other or []),
        rules=rules,
    )


def _about(scored: Sequence[Question], found: Sequence[Answer]) -> list[Answer]:
    """Return the predictions for the scored questions."""
    keys = {(each.image_id, each.question_id) for each in scored}
    return [each for each in found if (each.image_id, each.question_id) in keys]


def _answered(questions: Sequence[Question]) -> list[Question]:
    """Return the questions with one of few answers, with a warning of the number without a true one."""
    kept = [each for each in questions if each.answer and each.question_type != published.DIFFERENCE]
    if lacking := sum(not each.answer for each in questions):
        log.warning("%d questions without a true answer are left out", lacking)
    return kept


def _differences(questions: Sequence[Question], found: Sequence[Sequence[Answer]]) -> list[Question]:
    """Return the questions about two images that all runs predict, with a warning of the number of others."""
    difference_questions = [
        each for each in questions if each.answer and each.question_type == published.DIFFERENCE
    ]
    for predicted in found:
        runs = {seed_of(each) for each in predicted}
        keys = {(each.image_id, each.question_id, seed_of(each)) for each in predicted}
        kept = [
            e for e in difference_questions if all((e.image_id, e.question_id, seed) in keys for seed in runs)
        ]
        if len(kept) < len(difference_questions):
            log.warning(
                "%d questions about a difference have no prediction: left out",
                len(difference_questions) - len(kept),
            )
        difference_questions = kept
    return difference_questions


def _training(train: Iterable[Question], split: str | None) -> list[Question]:
    """Return the training questions with an answer; raise MedgroundError if there are none."""
    known, place = sources.checked(train, "train", check_truth()), sources.name_of(train, "train")
    part = sources.of_split(known, "train" if split else None, place, "question")
    found = [each for each in part if each.answer and each.question_type != published.DIFFERENCE]
    if not found:
        raise MedgroundError(f"{place}: no training question has an answer")
    return found


def _warn_of_shared(scored: Sequence[Question], others: Sequence[Question]) -> None:
    """Warn of the images that the published split has in both parts."""
    images = {each.image_id for each in scored}
    if both := len(images & {each.image_id for each in others}):
        log.warning(
            "%d of %d images are in other parts too, because the published split divides questions",
            both,
            len(images),
        )


def check_truth() -> Callable[[Question], None]:
    """Return a check that raises BadRecord for a second question with the same IDs, and for an empty one."""
    seen = set[Key]()

    def check(question: Question) -> None:
        key = question.image_id, question.question_id
        if key in seen:
            raise BadRecord("the second question with this question_id on this image", "question_id")
        seen.add(key)
        if not question.text.strip():
            raise BadRecord("an empty question", "text")

    return agreeing(check)


def check_prediction(truth: Sequence[Question]) -> Callable[[Answer], None]:
    """Return a check that raises BadRecord for an unknown question, and for a second line of a run."""
    known, seen = {(each.image_id, each.question_id) for each in truth}, set[tuple[Key, int]]()

    def check(found: Answer) -> None:
        key = found.image_id, found.question_id
        if key not in known:
            raise BadRecord("the truth has no such question", "question_id")
        if (key, seed_of(found)) in seen:
            raise BadRecord("the second line with this question and seed", "question_id")
        seen.add((key, seed_of(found)))

    return agreeing(check, truth)


def seed_of(found: Answer) -> int:
    """Return the seed of a prediction, 0 if it has none; raise BadRecord for another value."""
    seed = found.extra.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise BadRecord("expected a whole number", "seed")
    return seed


def _runs(found: Iterable[Answer], scored: Sequence[Question], source: str) -> Runs:
    runs: dict[int, dict[Key, Answer]] = {}
    for each in found:
        runs.setdefault(seed_of(each), {})[each.image_id, each.question_id] = each
    for run in runs.values():
        if missing := sum((each.image_id, each.question_id) not in run for each in scored):
            raise MedgroundError(f"{source}: no prediction for {missing} of {len(scored)} scored questions")
    if scored and not runs:
        raise MedgroundError(f"{source}: no prediction")
    return runs


def commonest(known: Iterable[Question]) -> Callable[[Question], str]:
    """Return the function from a question to the commonest training answer to its type.

    Of answers that are equally common, it is the first in the order of letters.
    """
    counts: dict[str | None, Counter[str]] = {}
    everything = Counter[str]()
    for each in known:
        answer = normal(each.answer or "")
        everything[answer] += 1
        counts.setdefault(each.question_type, Counter())[answer] += 1
    best = {kind: _most(found) for kind, found in counts.items()}
    return lambda question: best.get(question.question_type, _most(everything))


def _most(counts: Counter[str]) -> str:
    return min(counts, key=lambda answer: (-counts[answer], answer))


@dataclass(frozen=True, slots=True)
class AnswerProtocol:
    """The protocol: shares of questions with the true answer."""

    name: str = "answers"
    takes: Kind = registry.PROTOCOLS["answers"].reads

    def measure(self, data: AnswerData) -> Sequence[Measured]:
        """Return the figures over questions, over images, and the share of answers that can be found."""
        true = [normal(each.answer or "") for each in data.scored]
        right = [_right(runs, data.scored, true) for runs in (data.own, data.other) if runs is not None]
        if data.known is not None:
            guess = commonest(data.known)
            right.append(np.array([guess(q) == a for q, a in zip(data.scored, true, strict=True)], float))
        both = scoring.clusters([*data.scored, *data.differences])
        owners = both[: len(data.scored)]
        names = Counter(each.image_id for each in data.scored)
        of_image = np.array([1 / names[each.image_id] for each in data.scored])
        whole, parts = groups.build([], len(true), "-"), groups.build(_labels(data.scored), len(true), "-")

        def measured(split: groups.Groups, figures: Sequence[Figures]) -> Measured:
            later = list(figures[1:])
            other = later.pop(0) if data.other is not None else None
            prior = later.pop(0) if later else None
            return Measured(self.name, split, owners, split.counts, figures[0], prior=prior, other=other)

        found = [
            measured(parts, [{"accuracy": mean_over(each)} for each in right]),
            measured(whole, [{"accuracy_per_image": Ratio([(each * of_image, of_image)])} for each in right]),
        ]
        if data.known is not None:
            there = {normal(each.answer or "") for each in data.known}
            reachable = mean_over(np.array([each in there for each in true], float))
            found.append(Measured(self.name, parts, owners, parts.counts, {"reachable": reachable}))
        found += _of_differences(data, both[len(data.scored) :])
        return [replace(each, clusters=int(both.max(initial=-1)) + 1) for each in found]

    def galleries(self, data: AnswerData) -> Galleries:
        """Return no pictures: an answer has no place."""
        return no_galleries


ANSWERS = AnswerProtocol()


def _of_differences(data: AnswerData, owners: NDArray[np.int64]) -> list[Measured]:
    """Return the overlap of predicted and true sentences about differences, if there are any.

    owners: (N,) the patient of each of these questions.
    """
    difference_questions = data.differences
    if not difference_questions:
        return []
    group = groups.build([], len(difference_questions), "-")
    own, other = (
        None if runs is None else _overlap(runs, difference_questions) for runs in (data.own, data.other)
    )
    assert own is not None
    return [Measured("answers", group, owners, group.counts, own, other=other)]


def _overlap(runs: Runs, difference_questions: Sequence[Question]) -> Figures:
    """Return BLEU and ROUGE-L of cleaned words, as means over the runs."""
    true = [report_words.cleaned(each.answer or "") for each in difference_questions]
    every = [
        [report_words.cleaned(run[each.image_id, each.question_id].answer) for each in difference_questions]
        for run in runs.values()
    ]
    counts = [texts.NGrams.of(found, true) for found in every]
    figures: dict[str, scoring.Bindable] = {
        f"bleu{order}": MeanOf([texts.Bleu(each, order) for each in counts])
        for order in range(1, texts.LONGEST + 1)
    }
    rouge = [[texts.rouge_l(a, b) for a, b in zip(found, true, strict=True)] for found in every]
    return figures | {"rouge_l": mean_over(np.mean(rouge, axis=0))}


def _right(runs: Runs, scored: Sequence[Question], true: Sequence[str]) -> Array:
    """Return the (N,) shares of runs whose answer is the true one."""
    found = [
        [
            normal(run[each.image_id, each.question_id].answer) == answer
            for each, answer in zip(scored, true, strict=True)
        ]
        for run in runs.values()
    ]
    shares: Array = np.array(found, dtype=float).reshape(-1, len(scored)).mean(axis=0)
    return shares


def _labels(scored: Sequence[Question]) -> groups.Labels:
    """Return the masks of answer types and question types."""
    found: groups.Labels = []
    for kind in ("answer_type", "question_type"):
        values = [getattr(each, kind) for each in scored]
        names = sorted({value for value in values if value})
        found += [(f"{kind}:{name}", [value == name for value in values]) for name in names]
    return found
