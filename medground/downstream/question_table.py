"""Questions about images, divided into training, validation and test questions.

The answers of the training questions are the classes that a head can predict.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from medground import leakage
from medground.answers.normal import normal
from medground.downstream.splits import PARTS
from medground.errors import BadRecord, MedgroundError
from medground.published import DIFFERENCE, PARTS_SHARE_IMAGES
from medground.records import Question

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class QuestionTable:
    """Questions in their order, and the questions of each part. leaks: parts share patients, as allowed."""

    questions: list[Question]
    parts: dict[str, list[Question]]
    leaks: bool = False

    def digest(self) -> str:
        """Return a hash of all that a training uses of the questions."""
        whole = hashlib.sha256()
        for each in self.questions:
            whole.update(repr((each.path, each.text, each.answer, each.split)).encode())
        return whole.hexdigest()[:12]

    def images_digest(self, folder: Path) -> str:
        """Return a hash of the sizes of the questions' images below this folder."""
        whole = hashlib.sha256()
        for path in sorted({each.path for each in self.questions}):
            file = folder / path
            whole.update(f"{path}\0{file.stat().st_size if file.is_file() else None}\0".encode())
        return whole.hexdigest()[:12]


def of(questions: Iterable[Question], allow_leakage: bool = False) -> QuestionTable:
    """Return the questions by part.

    Questions about a difference are left out, with a warning. Raises MedgroundError for a part without a
    question, and for patients in two parts unless leakage is allowed or the published split is by question.
    """
    kept = without_differences(questions)
    parts = {name: [each for each in kept if each.split == name] for name in PARTS}
    for name, own in parts.items():
        if not own:
            raise MedgroundError(f"split: no question is of {name}; a head needs train, val and test")
    if any(PARTS_SHARE_IMAGES in (each.split_by or "") for each in kept):
        _warn_of_shared(parts)
        return QuestionTable(kept, parts)
    leaks = leakage.check(
        leakage.between(parts), allow_leakage, "draw the splits by patient, or give --allow-leakage"
    )
    return QuestionTable(kept, parts, leaks)


def without_differences(questions: Iterable[Question]) -> list[Question]:
    """Return the questions except those about two images, with a warning of their number."""
    given = list(questions)
    kept = [each for each in given if each.question_type != DIFFERENCE]
    if len(kept) < len(given):
        log.warning("%d questions about a difference of two images are left out", len(given) - len(kept))
    return kept


def _warn_of_shared(parts: dict[str, list[Question]]) -> None:
    trained = {each.image_id for each in parts["train"]}
    for name in PARTS[1:]:
        own = {each.image_id for each in parts[name]}
        if both := len(own & trained):
            log.warning(
                "%d of %d %s images are training images too: this published split divides questions",
                *(both, len(own), leakage.NAMES[name]),
            )


def check(fits: bool, readable: Callable[[str], None]) -> Callable[[Question], None]:
    """Return a check of lines for `jsonl.read`.

    It raises BadRecord for a second question with the same IDs, for an empty one, and, if the questions fit a
    head, for an unknown split and a missing answer. readable: raises MedgroundError for a path without an
    image.
    """
    seen = set[tuple[str, str]]()

    def check_one(question: Question) -> None:
        key = question.image_id, question.question_id
        if key in seen:
            raise BadRecord("the second question with this question_id on this image", "question_id")
        if not question.text.strip():
            raise BadRecord("an empty question", "text")
        if fits and question.split not in PARTS:
            raise BadRecord("expected train, val or test", "split")
        if fits and question.split != "test" and not (question.answer or "").strip():
            raise BadRecord("a training or validation question without an answer", "answer")
        try:
            readable(question.path)
        except (MedgroundError, OSError):
            raise BadRecord("no readable image at this path in --images", "path") from None
        seen.add(key)

    return check_one


@dataclass(frozen=True)
class Classes:
    """The distinct training answers: their normal forms, and the commonest spelling of each."""

    names: list[str]
    shown: list[str]

    def index(self, questions: Sequence[Question]) -> list[int]:
        """Return the class of each question's true answer, -1 for one that no training question has."""
        place = {name: n for n, name in enumerate(self.names)}
        return [place.get(normal(each.answer or ""), -1) for each in questions]


def classes_of(training: Iterable[Question]) -> Classes:
    """Return the classes of these questions, in the order of letters."""
    spellings: dict[str, Counter[str]] = {}
    for each in training:
        answer = (each.answer or "").strip()
        spellings.setdefault(normal(answer), Counter())[answer] += 1
    names = sorted(spellings)
    shown = [min(spellings[name], key=lambda text: (-spellings[name][text], text)) for name in names]
    return Classes(names, shown)


def warn_of_unreachable(table: QuestionTable, classes: Classes) -> None:
    """Warn of the test questions whose true answer is no class."""
    known = [each for each in table.parts["test"] if each.answer]
    if missing := classes.index(known).count(-1):
        log.warning(
            "%d of %d test questions (%.1f %%) have an answer that no training question has",
            *(missing, len(known), 100 * missing / len(known)),
        )
