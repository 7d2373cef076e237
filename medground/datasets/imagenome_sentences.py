"""The sentences of Chest ImaGenome's scene graphs, with their triplets.

A graph holds the phrases of a report, but not the report: the spans of these sentences count within the
phrase itself (`start` is 0), and the whole phrase is the span of finding and region. Findings keep the
names of the graph. Its attributes `nlp|yes|normal` and `texture|...` are not findings and are left out.
A finding with the cue `hedge` is uncertain.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medground.datasets.chest_imagenome import PATTERN, read_graph
from medground.datasets.mimic_cxr import study_id, subject_id
from medground.datasets.sources import File, TakeBad, files, refuse, sift
from medground.errors import BadRecord
from medground.records import Existence, Sentence, Triplet

FINDINGS = {"anatomicalfinding", "disease", "technicalassessment", "tubesandlines", "device"}
EXISTENCE: dict[tuple[str, bool], Existence] = {
    ("yes", False): "present",
    ("yes", True): "uncertain",
    ("no", False): "absent",
    ("no", True): "absent",
}


def read(root: Path, take: TakeBad = refuse) -> Iterator[Sentence]:
    """Yield the sentences of each study, in the order of its report, once for all images of the study.

    The first graph of a study, by file name, is used. A phrase without findings has no triplets.
    """
    seen: set[str] = set()
    for study, sentences in sift(files(root, PATTERN), _sentences, take):
        if study not in seen:
            seen.add(study)
            yield from sentences


def _sentences(file: File) -> tuple[str, list[Sentence]]:
    graph = read_graph(file)
    if not graph.get("study_id"):
        raise BadRecord("this key is missing", "study_id")
    study = study_id(graph["study_id"])
    subject = subject_id(graph["patient_id"]) if graph.get("patient_id") else None
    found: dict[str, Sentence] = {}
    for index, attribute in enumerate(graph["attributes"]):
        try:
            _add(found, attribute, study, subject)
        except BadRecord as bad:
            raise bad.under(index).under("attributes") from None
    return study, [found[key] for key in sorted(found, key=_order)]


def _add(found: dict[str, Sentence], attribute: Any, study: str, subject: str | None) -> None:
    """Add the attributes of one region to their sentences; create missing sentences."""
    if not isinstance(attribute, dict) or not isinstance(attribute.get("bbox_name"), str):
        raise BadRecord("expected the name of a region", "bbox_name")
    phrases = _list(attribute, "phrases")
    ids, sections, said = (_list(attribute, key, len(phrases)) for key in _PARALLEL)
    for index, text in enumerate(phrases):
        if not isinstance(text, str) or not isinstance(ids[index], str):
            raise BadRecord("expected a text", "phrases", index)
        sentence = found.setdefault(ids[index], _sentence(ids[index], text, sections[index], study, subject))
        cues = [word for key in _CUES for word in _cues(attribute, key, index)]
        known = {(each.region, each.finding, each.existence) for each in sentence.triplets}
        for each in _triplets(attribute["bbox_name"], said[index], cues, text):
            if (each.region, each.finding, each.existence) not in known:
                sentence.triplets.append(each)


_PARALLEL = ("phrase_IDs", "sections", "attributes")
_CUES = ("severity_cues", "comparison_cues")


def _list(attribute: dict[str, Any], key: str, length: int | None = None) -> list[Any]:
    value = attribute.get(key)
    if not isinstance(value, list):
        raise BadRecord("expected an array", key)
    if length is not None and len(value) != length:
        raise BadRecord(f"expected {length} items, as many as phrases", key)
    return value


def _sentence(phrase_id: str, text: str, section: Any, study: str, subject: str | None) -> Sentence:
    return Sentence(
        study_id=study,
        subject_id=subject,
        sentence_id=f"{study}|{phrase_id.rpartition('|')[2]}",
        section=section if isinstance(section, str) else "",
        start=0,
        end=len(text),
        text=text,
        triplets=[],
    )


def _cues(attribute: dict[str, Any], key: str, index: int) -> list[str]:
    """Return the names of the cues of a phrase: `mild` for `severity|yes|mild`."""
    value = attribute.get(key)
    own = value[index] if isinstance(value, list) and index < len(value) else []
    return [str(each).rpartition("|")[2] for each in own if "|yes|" in str(each)]


def _triplets(region: str, said: Any, cues: list[str], text: str) -> Iterator[Triplet]:
    for each in said if isinstance(said, list) else ():
        category, answer, name = (*str(each).split("|", 2), "", "")[:3]
        if category not in FINDINGS or answer not in ("yes", "no") or not name:
            continue
        yield Triplet(
            region=None if region == "unknown" else region,
            finding=name,
            existence=EXISTENCE[answer, "hedge" in cues],
            finding_span=(0, len(text)),
            region_span=None,
            cue=None,
            cue_span=None,
            region_source="none" if region == "unknown" else "explicit",
            rule="imagenome",
            severity=next((cue for cue in cues if cue in ("mild", "moderate", "severe")), None),
            change=next((cue for cue in cues if cue in ("improved", "no change", "worsened")), None),
        )


def _order(phrase_id: str) -> tuple[int, str]:
    """Return a sort key: the number of the phrase in its report, as in `50414267|3`."""
    number = phrase_id.rpartition("|")[2]
    return (int(number) if number.isascii() and number.isdigit() else 10**9, phrase_id)
