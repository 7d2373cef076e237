"""Paraphrases of a phrase: "left pleural effusion" -> "new left pleural fluid".

The lexicon has many words for a finding. Each replaces those in the phrase, half of them with a word for the
manner before it. A form is kept only if the parser finds the same findings in the same regions. A form with
one of the names of `held_out` is omitted: those are for probes.
"""

from functools import lru_cache
from itertools import islice
from random import Random

from medground.reports import held_out, tries
from medground.reports.parser import Parser
from medground.reports.tokens import words_of

# Findings that look alike and that reports use for the same image; for a box they are one finding.
ALIKE = {
    "lung opacity": ("airspace opacity", "infiltration", "lung density"),
    "consolidation": ("airspace opacity",),
}
# Modifiers that change neither the finding nor its place: of any finding, and of denser lung.
MANNERS = ("new", "persistent", "worsening", "increased", "unchanged", "stable", "residual")
TEXTURES = (
    "patchy", "hazy", "diffuse", "peripheral", "multifocal", "ill-defined", "extensive", "interstitial",
    "predominantly peripheral", "increasing", "subpleural", "confluent", "alveolar", "nodular", "dense",
)  # fmt: skip
TEXTURED = {"lung opacity", "consolidation", "pneumonia", "atelectasis"}


def paraphrases(phrase: str, parser: Parser, most: int) -> tuple[str, ...]:
    """Return at most `count` other forms; none if the phrase has no finding.

    The choice of the lexicon's words differs from phrase to phrase, so that many phrases cover most words.
    """
    meant, forms = _said(phrase, parser), _forms(phrase, parser)
    Random(phrase).shuffle(forms)  # parse no more forms than needed
    return tuple(islice((each for each in forms if _said(each, parser) == meant), most))


def _forms(phrase: str, parser: Parser) -> list[str]:
    """Return the phrase with each finding in its other words, and a manner before every second of them."""
    forms: dict[str, None] = {}
    for triplet in parser.read(phrase, 0, len(phrase), [])[0]:
        first, last = triplet.finding_span
        stands = tuple(words_of(phrase[first:last]))
        one, many = _words(parser, triplet.finding)
        if stands not in one and stands not in many:
            continue  # a state such as "heart is enlarged": there is no single phrase to replace
        manners = MANNERS + TEXTURES * (triplet.finding in TEXTURED)
        for number, words in enumerate(many if stands in many else one):
            manner = f"{manners[number // 2 % len(manners)]} " if number % 2 else ""
            form = f"{phrase[:first]}{manner}{' '.join(words)}{phrase[last:]}"
            if not held_out.has_held_out(words) and form.lower() != phrase.lower():
                forms[form] = None
    return list(forms)


def _said(text: str, parser: Parser) -> set[tuple[str | None, str, str]]:
    """Return the triplets of a text; findings that look alike on images share one name."""
    triplets = parser.read(text, 0, len(text), [])[0]
    return {(each.region, _FIRST.get(each.finding, each.finding), each.existence) for each in triplets}


def vocabulary(parser: Parser) -> set[str]:
    """Return every word of the lexicon, any of which a paraphrase may use."""
    known = {word for manner in (*MANNERS, *TEXTURES) for word in words_of(manner)}
    return known | tries.vocabulary(parser.lexicon.trie) | tries.vocabulary(parser.lexicon.places)


_FIRST = {other: "airspace opacity" for name, others in ALIKE.items() for other in (name, *others)}


@lru_cache(maxsize=1024)
def _words(parser: Parser, finding: str) -> tuple[tuple[tuple[str, ...], ...], ...]:
    """Return all phrases for a finding, as words, in the lexicon's order: of one, and of several."""
    entries = [parser.lexicon.findings.get(name) for name in (finding, *ALIKE.get(finding, ()))]
    patterns = [pattern for entry in entries if entry for pattern in entry.words]
    one = dict.fromkeys(words for pattern in patterns for words in tries.spellings(pattern))
    many = dict.fromkeys(
        form for words in one for form in tries.variants(words, plural=True) if form[-1] != words[-1]
    )
    return tuple(one), tuple(many)
