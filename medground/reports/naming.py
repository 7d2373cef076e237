"""Conversion of another parser's words for findings and places into our names."""

from medground.reports.lexicon import Lexicon
from medground.reports.matching import by_kind, in_order, match
from medground.reports.mentions import Mention
from medground.reports.regions import Place, Tag, find_places
from medground.reports.settling import settle
from medground.reports.tokens import tokenise
from medground.reports.verdicts import PRESENT


class Naming:
    """The names of findings and regions by the words of one lexicon."""

    def __init__(self, lexicon: Lexicon):
        self.lexicon = lexicon

    def finding(self, words: str) -> str | None:
        """Return the finding that the words name, the longest first; None if the lexicon has none."""
        found = by_kind(match(self.lexicon.trie, tokenise(words)[0]))
        names = sorted(found.get("F", ()), key=lambda tag: tag[0] - tag[1])
        return names[0][2] if names else None

    def regions(self, words: str, finding: str) -> list[str]:
        """Return the regions that the words name for one of our findings; [] if no side is known."""
        entry = self.lexicon.findings.get(finding)
        places = self._places(words)
        if entry is None:
            return list(dict.fromkeys(name for place in places for name in place.names))
        mention = Mention(0, 0, entry, PRESENT, places=places)
        settle(mention, [], self.lexicon.findings)
        return mention.regions

    def _places(self, words: str) -> list[Place]:
        tokens = tokenise(words)[0]
        tags: list[Tag] = in_order(match(self.lexicon.places, tokens))
        return find_places(tags, tokens, set(), self.lexicon.prepositions)
