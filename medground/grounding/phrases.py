"""Phrase records for images: from a few words, or from all findings of a report."""

import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO

from medground.errors import BadRecord, MedgroundError
from medground.records import Phrase, Report, Sentence, Triplet
from medground.reports.clauses import part_for

_FIRST = re.compile(r"^(?:(?:versus|vs|or|and)\b\.?[\s,;/]*)+", re.IGNORECASE)
_LAST = re.compile(r"(?:[\s,;/]+(?:versus|vs|or|and))+[\s,;/.]*$", re.IGNORECASE)


Images = str | Path | Phrase | Iterable[str | Path | Phrase]


def phrases_for(
    images: Images, phrases: str | Iterable[str] | None = None, report: str | Path | Report | None = None
) -> list[Phrase]:
    """Return the phrase records of images, with phrases or a report; phrase records are returned as they are.

    Every phrase, or finding of the report, is paired with every image. Raises MedgroundError unless each
    image has either phrases or a report, for an empty phrase, and for two files with the same name, whose
    groundings would have the same IDs.
    """
    several = [images] if isinstance(images, str | Path | Phrase) else list(images)
    paths = [Path(each) for each in several if not isinstance(each, Phrase)]
    records = [each for each in several if isinstance(each, Phrase)]
    if records and (paths or phrases is not None or report is not None):
        raise MedgroundError("phrase records cannot be combined with image paths, phrases or a report")
    if paths and (phrases is None) == (report is None):
        raise MedgroundError("an image requires either phrases or a report")
    _refuse_same_names(paths)
    sentences = None if report is None else sentences_of(report)
    texts = [phrases] if isinstance(phrases, str) else list(phrases or ())
    for path in paths:
        records += phrases_of(path, texts) if sentences is None else phrases_of_report(path, sentences)
    for each in records:
        refuse_empty(each)
    return records


def _refuse_same_names(paths: Iterable[Path]) -> None:
    """Raise MedgroundError for two paths whose image_id is the same."""
    seen = set[str]()
    for path in paths:
        if path.stem in seen:
            said = "two images have the same image_id"
            raise MedgroundError(f"{path}: {said}; give Phrase records with an image_id each")
        seen.add(path.stem)


def phrases_of(image: Path, texts: Iterable[str]) -> list[Phrase]:
    """Return a phrase record for each text, all on this one image."""
    path, name = str(image.absolute()), image.stem
    return [
        Phrase(image_id=name, phrase_id=f"{name}|{number}", path=path, text=text)
        for number, text in enumerate(texts, start=1)
    ]


def refuse_empty(phrase: Phrase) -> None:
    """Raise BadRecord for a phrase without text: a model would predict boxes for it all the same."""
    if not phrase.text.strip():
        raise BadRecord("is empty; expected a phrase", "text")


def sentences_of(report: str | Path | Report) -> list[Sentence]:
    """Return the sentences of one report: its text, its file, or its record."""
    if not isinstance(report, Path):
        return _parsed(report)
    with open(report, "rb") as stream:
        return sentences_of_file(stream, str(report))


def sentences_of_file(stream: BinaryIO, name: str) -> list[Sentence]:
    """Return the sentences of a text file with one report; [] for an empty file.

    Raises MedgroundError for a table or JSON lines, which may hold many reports.
    """
    from medground.reports import input as report_input
    from medground.reports import input_kind

    buffered: Any = stream if hasattr(stream, "peek") else io.BufferedReader(stream)
    input_kind.refuse_many(buffered.peek(65536), name)
    return _parsed(report_input.read_one(buffered, name))


def _parsed(report: str | Report | Iterable[Report]) -> list[Sentence]:
    from medground.reports.parse import parse  # most phrases are no report

    return parse(report)


def phrases_of_report(image: Path, sentences: Iterable[Sentence]) -> Iterator[Phrase]:
    """Yield a phrase for each finding of each sentence, in order.

    The text is the sentence, or the part of it about this finding if there are several. Further keys hold its
    origin: `study_id`, `sentence_id`, `section`, `start` and `end` (the sentence's span in the report),
    `finding`, `regions` and `existence`. A phrase with the existence "absent" gets no boxes.
    """
    for sentence in sentences:
        for number, group in enumerate(_findings(sentence), start=1):
            yield _phrase(image, sentence, number, group)


def _findings(sentence: Sentence) -> list[list[Triplet]]:
    """Return the triplets of each finding and existence; several regions of it belong together."""
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
    """Return the part of the sentence about this finding, in one line."""
    marked = [
        replace(_unjoined(each), region="this" if each in group else "other") for each in sentence.triplets
    ]
    part = part_for("this", replace(sentence, triplets=marked))
    return " ".join(part.split() if part == sentence.text else _joined(part).split())


def _unjoined(triplet: Triplet) -> Triplet:
    """Return the triplet without a cue that joins it to another finding, such as "versus"."""
    return replace(triplet, cue_span=None) if _FIRST.fullmatch(triplet.cue or "") else triplet


def _joined(part: str) -> str:
    """Return the part without conjunctions at its ends: "versus atelectasis" becomes "atelectasis"."""
    return _LAST.sub("", _FIRST.sub("", part)) or part
