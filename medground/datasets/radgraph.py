"""RadGraph and RadGraph-XL (Jain et al., 2021; Delbrouck et al., 2024): entities and relations of reports.

The file is one JSON object from a report's path (`p10/p10000032/s50414267.txt`) to its tokenized text and
its entities; each holds the indices of its first and last token in `text.split(" ")`, the last included.
Labels are ANAT-DP, OBS-DP, OBS-DA, OBS-U, or XL's `Observation::definitely present`. An observation that
modifies another is part of it; anatomies that modify each other are one region; a finding is in the region it
is `located_at`. DP is present, DA absent, U uncertain.

The spans of these sentences refer to the tokenized text, not to the original report.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from medground.datasets.mimic_cxr import ids_in
from medground.datasets.sources import Source, TakeBad, is_unicode, name_of, opened, refuse
from medground.errors import BadRecord, MedgroundError, sift
from medground.records import Existence, Sentence, Span, Triplet

NameFinding = Callable[[str], str | None]
NameRegions = Callable[[str, str], list[str]]
EXISTENCE: dict[str, Existence] = {
    "DP": "present",
    "DA": "absent",
    "U": "uncertain",
    "definitely present": "present",
    "definitely absent": "absent",
    "uncertain": "uncertain",
}
CHUNK = 1 << 20


def read(
    source: Source, name_finding: NameFinding, name_regions: NameRegions, take: TakeBad = refuse
) -> Iterator[Sentence]:
    """Yield the sentences of each report, in the order of the file, one report in memory at a time.

    `name_finding` and `name_regions` map RadGraph's words to our names; a finding without a name keeps
    its own words. An invalid report goes to `take`. Sentences end at the token ".".
    """
    name = name_of(source)

    def make(member: tuple[int, str, Any]) -> list[Sentence]:
        _, path, report = member
        if not is_unicode(path):
            raise BadRecord("its key is not Unicode: it has half of a surrogate pair")
        return list(_sentences(path, report, name_finding, name_regions))

    def reject(member: tuple[int, str, Any], bad: BadRecord) -> None:
        number, path, report = member
        bad.place = f"{name}: report {number}: "
        take(json.dumps({path: report}).encode() + b"\n", bad)

    with opened(source) as stream:
        members = ((n, *each) for n, each in enumerate(_members(stream, name), start=1))
        for sentences in sift(members, make, reject, name, "report"):
            yield from sentences


def _members(stream: BinaryIO, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the (key, value) pairs of one large JSON object, read piece by piece."""
    decoder = json.JSONDecoder()
    text = _Text(stream, name)
    if text.next() != "{":
        raise MedgroundError(f"{name}: expected one JSON object of reports; is this RadGraph?")
    text.skip(1)
    while text.next() != "}":
        if text.next() == ",":
            text.skip(1)
            text.next()
        key = text.value(decoder)
        if text.next() != ":" or not isinstance(key, str):
            raise MedgroundError(f"{name}: not JSON after {text.taken} characters")
        text.skip(1)
        text.next()
        yield key, text.value(decoder)


class _Text:
    """A window of the stream; `taken` counts the characters before it."""

    def __init__(self, stream: BinaryIO, name: str):
        self.stream, self.name, self.buffer, self.taken, self.rest = stream, name, "", 0, b""

    def more(self) -> bool:
        """Read more; return False at the end."""
        data = self.rest + self.stream.read(CHUNK)
        if not data:
            return False
        cut = len(data) - next((n for n in range(1, 4) if data[-n:][:1] >= b"\xc0"), 0)
        text, self.rest = data[:cut], data[cut:]
        if not text:
            text, self.rest = data, b""
        self.buffer += text.decode("utf-8-sig" if not self.taken and not self.buffer else "utf-8", "replace")
        return True

    def next(self) -> str:
        """Return the next character that is not a space, without consuming it; "" at the end."""
        self.skip(len(self.buffer) - len(self.buffer.lstrip()))
        while not self.buffer and self.more():
            self.skip(len(self.buffer) - len(self.buffer.lstrip()))
        return self.buffer[:1]

    def skip(self, count: int) -> None:
        self.buffer = self.buffer[count:]
        self.taken += count

    def value(self, decoder: json.JSONDecoder) -> Any:
        """Consume and return the next JSON value."""
        while True:
            try:
                found, end = decoder.raw_decode(self.buffer)
            except json.JSONDecodeError:
                if not self.more():
                    raise MedgroundError(f"{self.name}: not JSON after {self.taken} characters") from None
                continue
            self.skip(end)
            return found


def _sentences(
    path: str, report: Any, name_finding: NameFinding, name_regions: NameRegions
) -> Iterator[Sentence]:
    graph = _Graph(report)
    subject, study = ids_in(path)
    study = study or path.rpartition("/")[2].removesuffix(".txt")
    spoken = defaultdict(list)
    for triplet in graph.triplets(name_finding, name_regions):
        spoken[graph.sentence_at(triplet.finding_span[0])].append(triplet)
    for number, (start, end) in enumerate(graph.sentences, start=1):
        yield Sentence(
            study_id=study,
            subject_id=subject,
            sentence_id=f"{study}|{number}",
            section="text",
            start=start,
            end=end,
            text=graph.text[start:end],
            triplets=spoken[start, end],
        )


class _Graph:
    """One report's entities: token indices as spans in the text, relations by kind."""

    def __init__(self, report: Any):
        if not isinstance(report, dict) or not isinstance(report.get("text"), str):
            raise BadRecord("this key is missing", "text")
        if not is_unicode(report["text"]):
            raise BadRecord("not Unicode: it has half of a surrogate pair", "text")
        self.text: str = report["text"]
        self.ends: list[int] = []
        place = -1
        for token in self.text.split(" "):
            place += len(token) + 1
            self.ends.append(place)
        self.starts = [0, *(end + 1 for end in self.ends[:-1])]
        annotated = report.get("entities", (report.get("labeler_1") or {}).get("entities"))
        if not isinstance(annotated, dict):
            raise BadRecord("expected an object", "entities")
        self.entities = {
            key: self._entity(number, value) for number, (key, value) in enumerate(annotated.items())
        }
        self.sentences = list(self._split())

    def _entity(self, number: int, value: Any) -> dict[str, Any]:
        """Return the entity of this number in the report; messages do not contain its key."""
        try:
            first, last, label = int(value["start_ix"]), int(value["end_ix"]), str(value["label"])
            related = [(str(kind), str(other)) for kind, other in value["relations"]]
        except (KeyError, TypeError, ValueError, OverflowError):
            raise BadRecord("expected start_ix, end_ix, label and relations", "entities", number) from None
        if not 0 <= first <= last < len(self.ends):
            raise BadRecord("its tokens are not in the text", "entities", number)
        parts = label.split("::") if "::" in label else label.split("-")
        observed = parts[0].startswith("O")
        if observed and parts[-1] not in EXISTENCE:
            raise BadRecord("not a RadGraph label", "entities", number, "label")
        return {
            "first": first,
            "last": last,
            "observed": observed,
            "certainty": parts[-1],
            "related": related,
        }

    def _split(self) -> Iterator[Span]:
        start = 0
        for n, end in enumerate(self.ends):
            last = n == len(self.ends) - 1
            if (self.text[self.starts[n] : end] == "." or last) and end > start:
                if self.text[start:end].strip(" ."):
                    yield start, end
                start = end + 1

    def sentence_at(self, place: int) -> Span:
        return next((span for span in self.sentences if span[0] <= place < span[1]), (0, 0))

    def triplets(self, name_finding: NameFinding, name_regions: NameRegions) -> Iterator[Triplet]:
        """Return a triplet for each observation that modifies no other, and each of its regions."""
        for key, entity in sorted(self.entities.items(), key=lambda pair: pair[1]["first"]):
            if not entity["observed"] or self._modifies(entity, observed=True):
                continue
            words = self._group(key, observed=True)
            finding = (
                name_finding(self._words(words)) or name_finding(self._words([key])) or self._words([key])
            )
            anatomies = [other for kind, other in entity["related"] if kind == "located_at"]
            anatomies += [o for each in words for k, o in self.entities[each]["related"] if k == "located_at"]
            yield from self._located(finding, entity, list(dict.fromkeys(anatomies)), name_regions)

    def _located(
        self, finding: str, entity: dict[str, Any], anatomies: list[str], name_regions: NameRegions
    ) -> Iterator[Triplet]:
        groups = [self._group(each, observed=False) for each in anatomies if each in self.entities]
        found: dict[str, Span] = {}
        for group in groups:
            for region in name_regions(self._words(group), finding):
                found.setdefault(region, self._span(group))
        default = [] if found else name_regions("", finding)
        names: list[str | None] = [*found, *default]
        for name in names or [None]:
            yield Triplet(
                region=name,
                finding=finding,
                existence=EXISTENCE[entity["certainty"]],
                finding_span=(self.starts[entity["first"]], self.ends[entity["last"]]),
                region_span=found.get(name or "") or (self._span(groups[0]) if groups else None),
                cue=None,
                cue_span=None,
                region_source="explicit" if found else "default" if name else "none",
                rule="radgraph",
            )

    def _modifies(self, entity: dict[str, Any], observed: bool) -> bool:
        return any(
            kind == "modify" and other in self.entities and self.entities[other]["observed"] == observed
            for kind, other in entity["related"]
        )

    def _group(self, key: str, observed: bool) -> list[str]:
        """Return the entity and its direct and indirect modifiers, in text order."""
        group, waiting = {key}, [key]
        while waiting:
            head = waiting.pop()
            for other, entity in self.entities.items():
                joined = ("modify", head) in entity["related"] and entity["observed"] == observed
                if joined and other not in group:
                    group.add(other)
                    waiting.append(other)
        return sorted(group, key=lambda each: self.entities[each]["first"])

    def _words(self, keys: list[str]) -> str:
        return " ".join(
            self.text[self.starts[self.entities[k]["first"]] : self.ends[self.entities[k]["last"]]]
            for k in keys
        ).lower()

    def _span(self, keys: list[str]) -> Span:
        own = [self.entities[key] for key in keys]
        return min(self.starts[e["first"]] for e in own), max(self.ends[e["last"]] for e in own)
