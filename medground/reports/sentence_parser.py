"""Parser of sentences: their triplets, from their words, cues, structures and places.

A sentence is matched with the lexicon. States of structures and findings become mentions, each with a verdict
on its existence and with its places.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from medground.records import Existence, Triplet
from medground.reports import lexicon as words_of_art
from medground.reports.breaks import HARD, colon_lists, is_month
from medground.reports.comparisons import RELATIVE, compare_sides, name_other_sides, with_sides
from medground.reports.ellipsis import Half, add_halves, find_halves, set_apart, without_regions
from medground.reports.existence import Scopes
from medground.reports.joints import ADVERBS, SINGULAR
from medground.reports.lexicon import Lexicon
from medground.reports.linking import link
from medground.reports.matching import by_kind, in_order, match
from medground.reports.mention_rules import (
    called_normal,
    counted,
    exceptions_in,
    incidental,
    is_passed,
    is_placed,
    keep_own_places,
    may_be_meant,
    mention_of,
    only_tip,
    phrase_start,
    removed,
    without_named_tips,
)
from medground.reports.mentions import Mention
from medground.reports.modifiers import modify
from medground.reports.predicates import CONTRASTS, is_of_earlier, with_predicates
from medground.reports.reading import Reading
from medground.reports.regions import Tag, find_places
from medground.reports.run_ons import ENDERS, find_run_ons, with_stops
from medground.reports.settling import settle
from medground.reports.sharing import EXPLAINS
from medground.reports.spelling import DIVIDED, Speller
from medground.reports.states import COPULAS, Statement, find_statements, without_former
from medground.reports.tokens import tokenise
from medground.reports.triplets import Draft, drafts_of, moved, without_doubles
from medground.reports.verdicts import PRESENT, Verdict
from medground.reports.wordlists import word_set

LONGEST_KNOWN: Final = 160  # code points of a sentence that is cached
MOST_KNOWN: Final = 10_000  # cached sentences; as many earlier ones are kept, together some 40 MB
CUES: Final = frozenset("NMBUVuvLPHAREeGD")
NO_CUES: Final = Scopes([], [], [])
PASSING: Final = word_set("existence", "passing")
ASPECTS: Final = frozenset(("acuity", "age", "chronicity", "significance", "etiology", "nature", "cause"))
BRIDGES: Final = frozenset("LPUuAD")
Found = tuple[list[Draft], list[str]]  # drafts of a sentence's triplets, and its regions


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of the parser.

    The existence of "likely", and whether to parse history and technique, and reports that are not English.
    """

    likely_as: Existence = "uncertain"
    all_sections: bool = False
    any_language: bool = False


class SentenceParser:
    """A parser of sentences with one lexicon."""

    def __init__(self, lexicon: Lexicon | None = None, options: Options | None = None):
        self.lexicon = lexicon or words_of_art.load()
        self.options = options or Options()
        self._speller = Speller(self.lexicon)
        self._known: dict[str, Found] = {}
        self._known_before: dict[str, Found] = {}

    def read(self, text: str, start: int, end: int, before: list[str]) -> tuple[list[Triplet], list[str]]:
        """Return (triplets of text[start:end], its regions); `before` are the regions of the previous
        sentence.
        """
        drafts, regions = self.find(text[start:end], before)
        return [moved(each, start) for each in drafts], regions

    def find(self, sentence: str, before: list[str]) -> Found:
        """Return (drafts of the triplets, regions) of a sentence."""
        known = self._known.get(sentence)
        if known is not None:
            return known
        known = self._known_before.get(sentence)
        if known is None:
            reading = self.analyse(sentence, 0, before)
            drafts = [each for m in reading.mentions for each in drafts_of(sentence, reading, m)]
            meant = next((m.regions for m in reading.mentions if may_be_meant(m)), [])
            known = without_doubles(drafts), meant
            if reading.refers or len(sentence) > LONGEST_KNOWN:
                return known
        if len(self._known) >= MOST_KNOWN:  # half of a corpus's sentences are repetitions: those are kept
            self._known_before, self._known = self._known, {}
        self._known[sentence] = known
        return known

    def analyse(self, sentence: str, offset: int = 0, before: list[str] | None = None) -> Reading:
        """Return the analyzed sentence; spans are counted from `offset` on."""
        reading = Reading(*tokenise(sentence, offset))
        if ("\xad" in sentence or "\n" in sentence) and DIVIDED.search(sentence):
            self._speller.join(sentence, (reading.words, reading.starts, reading.ends), offset)
        self._speller.correct(reading.words, reading.starts, reading.ends)
        if not RELATIVE.isdisjoint(reading.words):
            name_other_sides(reading.words)
        reading.tags = by_kind(match(self.lexicon.trie, reading.words))
        found = len(reading.tags.get("F", ())) + len(reading.tags.get("T", ()))
        if found > 1 or (found and not ENDERS.isdisjoint(reading.words)):
            self._end_clauses(reading)
        if self.lexicon.own:
            self._find_own(reading)
        if "F" not in reading.tags and "T" not in reading.tags:
            return reading
        self._find_mentions(reading)
        if reading.mentions:
            self._find_regions(reading, before or [])
        return reading

    def _end_clauses(self, reading: Reading) -> None:
        """Insert the full stops that are missing before clauses, and match again."""
        run_ons = find_run_ons(reading.words, reading.tags, self.lexicon)
        if run_ons:
            with_stops((reading.words, reading.starts, reading.ends), run_ons)
            reading.tags = by_kind(match(self.lexicon.trie, reading.words))

    def _find_own(self, reading: Reading) -> None:
        """Add a user's findings inside longer built-in phrases ("edema" in "scalp edema") and cues."""
        cues = [(i, j) for kind in reading.tags.keys() & CUES for i, j, _ in reading.tags[kind]]
        known = reading.tags.get("F", [])
        for i, j, _, name in in_order(match(self.lexicon.own, reading.words)):
            opened = any(a < i < b < j for a, b in cues)  # "no focal" before "focal airspace disease"
            if name in self.lexicon.added or opened:
                known = [each for each in known if not (opened and i <= each[0] and each[1] <= j)]
                known.append((i, j, name))
        if known:
            reading.tags["F"] = sorted(set(known))

    def _find_mentions(self, reading: Reading) -> None:
        words, tags = reading.words, reading.tags
        named = {j for _, j, _ in tags.get("S", ())}
        for _, j, (name, length) in tags.pop("s", ()):
            if j not in named:
                tags.setdefault("S", []).append((j - length, j, name))
                tags["S"].sort()
        reading.cues = sorted([(i, j, kind) for kind in tags if kind in CUES for i, j, _ in tags[kind]])
        if "may" in words:
            reading.cues = [cue for cue in reading.cues if not is_month(words, *cue[:2])]
        found = tags.get("F", [])
        reading.cues = with_predicates(words, reading.cues, tags)
        if ":" in words:
            reading.cues += colon_lists(words, reading.cues, [i for i, _, _ in found])
        if "T" in tags and "S" in tags:
            hard = [n for n, word in enumerate(words) if word in HARD and word != ":"]
            said = frozenset([i for i, _, _ in tags["T"]])
            hard += [i for i, j, kind in reading.cues if kind == "E" and not is_passed(words, i, j, said)]
            exceptions = exceptions_in(words)
            begins = [i for i, _, _ in found]
            ends = frozenset([j for _, j, _ in found])
            tags["T"] = without_former(words, tags["T"])
            reading.statements = find_statements(
                self.lexicon, words, tags["S"], tags["T"], sorted(hard), exceptions, begins, ends
            )
        reading.halves = find_halves(words, tags)
        reading.scopes = scopes = self._scopes(reading, found) if reading.cues else NO_CUES
        for statement in reading.statements:
            verdict = self._state_verdict(scopes, statement, words)
            if verdict:
                finding = self.lexicon.findings[statement.finding]
                reading.mentions.append(mention_of(statement, finding, verdict))
        taken = [
            span
            for s in reading.statements
            if s.holds
            for span in (s.said, *([] if s.subject.keeps else [s.place]))
        ]
        contrasted = not CONTRASTS.isdisjoint(words)
        gone = {(i, j) for i, j, _ in tags.get("X", ())}
        for i, j, name in found:
            if taken and any(a <= i and j <= b for a, b in taken):
                continue
            verdict = scopes.verdict(
                i, j, self.options.likely_as, None, name in PASSING, name in self.lexicon.added
            )
            if name in self.lexicon.devices and only_tip(words, i, j, verdict):
                verdict = PRESENT
            if verdict.rule == "doubt-after" and not ASPECTS.isdisjoint(words[max(0, i - 6) : i]):
                verdict = PRESENT  # "the acuity of the fractures is uncertain"
            if (i, j) in gone:
                verdict = removed(verdict, i, j)
            if "T" in tags and verdict.existence == "present" and called_normal(words, j, tags["T"]):
                verdict = Verdict("absent", "normality", (j, j + 1, "T"))
            if contrasted and is_of_earlier(words, i, j):
                verdict = Verdict(None, "earlier")
            finding = self.lexicon.findings[name]
            reading.mentions.append(Mention(i, j, finding, verdict, tip=name == "device tip"))
        reading.mentions.sort(key=lambda m: (m.i, m.j))
        modify(words, tags, reading.mentions, reading.halves)

    def _scopes(self, reading: Reading, found: list[tuple[int, int, str]]) -> Scopes:
        """Return the reach of the sentence's cues; a subject that is part of a finding's name ends no
        list.
        """
        spots = [(i, j) for i, j, _ in found] + [(s.at, s.at + 1) for s in reading.statements]
        spots += [(half.side, half.side + 1) for half in reading.halves if half.side is not None]
        subjects: frozenset[int] = frozenset()
        if "S" in reading.tags:
            covered = {n for i, j, _ in found for n in range(i, j)}
            subjects = frozenset([i for i, _, _ in reading.tags["S"] if i not in covered])
        states = frozenset([s.i for s in reading.statements if s.holds or s.i == s.at])
        if len(found) > 1:
            states |= incidental(found)
            states = states.union([i for i, j, _ in found if is_placed(reading.words, i, j)])
        if "C" in reading.tags or "Q" in reading.tags or not COPULAS.isdisjoint(reading.words):
            states |= {phrase_start(reading.words, i) for i, j, _ in found if reading.affirms(j)}
            doubts = {
                i
                for i, _, kind in reading.cues
                if kind in "Vv" or (kind in "LP" and reading.words[i] in COPULAS)
            }
            joined = ADVERBS | {","}
            states |= {
                i
                for i, j, _ in found
                if j in doubts
                and (reading.words[j] in SINGULAR or not joined.isdisjoint(reading.words[max(0, i - 2) : i]))
            }
        return Scopes(
            reading.words,
            reading.cues,
            spots,
            subjects,
            states,
            [(half.start, half.end) for half in reading.halves],
        )

    def _state_verdict(self, scopes: Scopes, statement: Statement, words: list[str]) -> Verdict | None:
        said = scopes.verdict(statement.i, statement.j, self.options.likely_as, anchor=statement.at)
        if statement.holds:
            return said
        if said.existence == "absent" or "guarded" in statement.state:
            return None  # "not normal" is about no single finding
        return Verdict("absent", "normality", (statement.at, statement.at + 1, "T"))

    def _find_regions(self, reading: Reading, before: list[str]) -> None:
        words, mentions = reading.words, reading.mentions
        tags = with_sides(in_order(match(self.lexicon.places, words)), words)
        stops = {n for i, j, _ in reading.tags.get("F", ()) for n in range(i, j)}
        reading.places = find_places(tags, words, stops, self.lexicon.prepositions)
        if "than" in words:
            reading.places = compare_sides(reading.places, words, stops)
        bridges = [(i, j) for i, j, kind in reading.cues if kind in BRIDGES]
        if not EXPLAINS.isdisjoint(words):
            bridges += [(n, n + 1) for n, word in enumerate(words) if word in EXPLAINS]
        mentions = reading.mentions = without_named_tips(reading.mentions)
        exceptions = exceptions_in(words)
        places = reading.places
        if reading.halves:
            halves = [h for h in reading.halves if h.side is None or any(m.j <= h.start for m in mentions)]
            halves += [h for h in reading.halves if h.forward]
            apart = {n for half in halves for n in range(half.start, half.end)}
            apart -= {n for each in mentions if each.apart for n in range(each.i, each.j)}
            places = [p for p in places if p.i not in apart]
        link(words, mentions, places, self.lexicon.verbs, bridges)
        mentions = [each for each in mentions if each.verdict.existence]
        for mention in mentions:
            if exceptions or mention.apart:
                keep_own_places(mention, [*exceptions, mention.i - 1] if mention.apart else exceptions)
        anaphora = self.lexicon.anaphora
        reading.refers = tuple(words[:1]) in anaphora or tuple(words[:2]) in anaphora
        for mention in mentions:
            settle(mention, before if reading.refers else [], self.lexicon.findings)
        if exceptions:
            mentions = set_apart(mentions, exceptions)
        for special in [each for each in mentions if each.apart]:
            mentions = [*without_regions([m for m in mentions if m is not special], special), special]
        if reading.halves:
            mentions = add_halves(reading.halves, words, reading.tags, mentions, self._of_half(reading))
        reading.mentions = counted(mentions, any(kind == "elsewhere" for _, _, kind, _ in tags))

    def _of_half(self, reading: Reading) -> Callable[[Half, Mention], None]:
        """Return a function that decides the existence and the places of a half's mention."""
        scopes = reading.scopes or NO_CUES

        def decide(half: Half, mention: Mention) -> None:
            side = half.side or 0
            mention.verdict = scopes.verdict(side, side + 1, self.options.likely_as)
            if mention.verdict.existence == "absent" and half.denies_change(
                reading.words, reading.tags, mention.j
            ):
                mention.verdict = PRESENT
            words = half.words(reading.words)
            tags: list[Tag] = in_order(match(self.lexicon.places, words))
            places = find_places(tags, words, set(), self.lexicon.prepositions)
            mention.places = [replace(p, i=p.i + half.start, j=p.j + half.start) for p in places]
            settle(mention, [], self.lexicon.findings)

        return decide
