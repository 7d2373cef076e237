"""What to look for on one image: a few words, or everything that its report speaks of."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from medground.errors import BadRecord
from medground.records import Phrase, Sentence, Triplet
from medground.reports.clauses import part_for

_FIRST = re.compile(r"^(?:(?:versus|vs|or|and)\b\.?[\s,;/]*)+", re.IGNORECASE)
_LAST = re.compile(r"(?:[\s,;/]+(?:versus|vs|or|and))+[\s,;/.]*$", re.IGNORECASE)


def phrases_of(image: Path, words: Iterable[str]) -> list[Phrase]:
    """A phrase record for each of the words, all on this one image."""
    path, name = str(image.absolute()), image.stem
    return [
        Phrase(image_id=name, phrase_id=f"{name}|{number}", path=path, text=text)
        for number, text in enumerate(words, start=1)
    ]


def refuse_empty(phrase: Phrase) -> None:
    """Raise BadRecord for a phrase without words: a model would answer it all the same."""
    if not phrase.text.strip():
        raise BadRecord("is empty: there is nothing to look for", "text")


def phrases_of_report(image: Path, sentences: Iterable[Sentence]) -> Iterator[Phrase]:
    """Yield a phrase for each finding of each sentence, in their order; a sentence without one gives none.

    Its text is the sentence, or of one with several findings the part that speaks of this one. Keys of its
    own say where it comes from: `study_id`, `sentence_id`, `section`, `start` and `end` (the sentence's span
    in the report), `finding`, `regions` and `existence`, which makes an absent one be answered so.
    """
    for sentence in sentences:
        for number, group in enumerate(_findings(sentence), start=1):
            yield _phrase(image, sentence, number, group)


def _findings(sentence: Sentence) -> list[list[Triplet]]:
    """The triplets of each finding and existence; one with several regions is one finding."""
    groups: dict[tuple[str, str], list[Triplet]] = {}
    for each in sentence.triplets:
        groups.setdefault((each.finding, each.existence), []).append(each)
    return list(groups.values())


def _phrase(image: Path, sentence: Sentence, number: int, group: list[Triplet]) -> Phrase:
    own = {
        "study_id": sentence.study_id,
        "sentence_id": sentence.sentence_id,
        "section": sentence.section,
        "start": sentence.start,
        "end": sentence.end,
        "finding": group[0].finding,
        "regions": [region for region, _ in groupby(each.region for each in group) if region],
        "existence": group[0].existence,
    }
    return Phrase(
        image_id=image.stem,
        phrase_id=f"{sentence.sentence_id}|{number}",
        subject_id=sentence.subject_id,
        path=str(image.absolute()),
        text=_words(sentence, group),
        category=None,
        extra=own,
    )


def _words(sentence: Sentence, group: list[Triplet]) -> str:
    """The part of the sentence about this finding, in one line: its triplets stand for one region."""
    marked = [
        replace(_unjoined(each), region="this" if each in group else "other") for each in sentence.triplets
    ]
    part = part_for("this", replace(sentence, triplets=marked))
    return " ".join(part.split() if part == sentence.text else _joined(part).split())


def _unjoined(triplet: Triplet) -> Triplet:
    """The triplet without a cue that joins it to another finding: of one alone, "versus" says nothing."""
    return replace(triplet, cue_span=None) if _FIRST.fullmatch(triplet.cue or "") else triplet


def _joined(part: str) -> str:
    """The part without words at its ends that joined it to the rest: "versus atelectasis" is no phrase."""
    return _LAST.sub("", _FIRST.sub("", part)) or part
