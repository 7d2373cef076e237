"""The protocol `answers`: predicted answers to questions against the true ones.

Two answers are equal if `answers.normal` returns the same text for both. Runs with different seeds are
averaged.
accuracy             share of questions whose predicted answer is the true one
accuracy_per_image   mean over images of the accuracy on their questions
reachable            share of questions whose true answer occurs in training; only with training questions

The image-free baseline is the commonest training answer to questions of the same type, or of all types if no
training question has it. Groups: `all`, `answer_type:closed` and `open`, `question_type:NAME`.

Questions without a true answer are left out, and so are questions about the difference of two images, whose
answers are sentences. Both are counted in a warning.

Letter: N questions.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medground import published, registry
from medground.answers.normal import normal
from medground.errors import BadRecord, MedgroundError
from medground.evaluation import sources
from medground.evaluation.prepared import Kind, Prepared
from medground.evaluation.report.pictures import Galleries, no_galleries
from medground.evaluation.stats import groups, scoring
from medground.evaluation.stats.bootstrap import Array
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
    with the scored ones.
    """

    scored: Sequence[Question]
    known: Sequence[Question] | None = None
    own: Runs
    other: Runs | None = None


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
    scored = _answered(sources.of_split(everything, split, sources.name_of(truth, "truth"), "question"))
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
    """Return the questions whose answer can be compared, with a warning of the number of others."""
    kept = [each for each in questions if each.answer and each.question_type != published.DIFFERENCE]
    differences = sum(each.question_type == published.DIFFERENCE for each in questions)
    if differences:
        log.warning("%d questions about a difference are left out: answers are sentences", differences)
    if lacking := len(questions) - len(kept) - differences:
        log.warning("%d questions without a true answer are left out", lacking)
    return kept


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

    return check


def check_prediction(truth: Iterable[Question]) -> Callable[[Answer], None]:
    """Return a check that raises BadRecord for an unknown question, and for a second line of a run."""
    known, seen = {(each.image_id, each.question_id) for each in truth}, set[tuple[Key, int]]()

    def check(found: Answer) -> None:
        key = found.image_id, found.question_id
        if key not in known:
            raise BadRecord("the truth has no such question", "question_id")
        if (key, seed_of(found)) in seen:
            raise BadRecord("the second line with this question and seed", "question_id")
        seen.add((key, seed_of(found)))

    return check


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
        owners = scoring.clusters(data.scored)
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
        return found

    def galleries(self, data: AnswerData) -> Galleries:
        """Return no pictures: an answer has no place."""
        return no_galleries


ANSWERS = AnswerProtocol()


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
