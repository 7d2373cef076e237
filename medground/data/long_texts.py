"""Texts that are longer than a model's text length: shortened, counted and warned of."""

import logging
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from medground.models import tokens

if TYPE_CHECKING:  # few texts are too long, and only these are parsed
    from medground.reports.parser import Parser

log = logging.getLogger(__name__)


class LongTexts:
    """The texts of one run that were too long for the model, each with its shortened form."""

    def __init__(self, tokenizer: Any, limit: int):
        self.tokenizer, self.limit = tokenizer, limit
        self.short: dict[str, str] = {}

    @cached_property
    def _parser(self) -> "Parser":
        from medground.reports.parser import Parser

        return Parser()

    def fitted(self, text: str) -> str:
        """Return the text, or the clause of it with the finding and its place if it is too long."""
        if len(text) + tokens.SPECIAL_TOKENS <= self.limit:  # a token has at least one letter
            return text
        if text not in self.short and not self._fits(text):
            from medground.reports.shorten import shortened

            self.short[text] = shortened(text, self._parser, self._fits)
        return self.short.get(text, text)

    def _fits(self, text: str) -> bool:
        return len(self.tokenizer(text)["input_ids"]) <= self.limit

    def take(self, texts: Iterable[str]) -> None:
        """Shorten all of these texts that are too long."""
        for text in texts:
            self.fitted(text)

    def warn(self, what: str) -> None:
        """Log how many texts were shortened, if any; `what` names them in the plural."""
        if self.short:
            log.warning(
                "%d %s are longer than the text length of the model, %d tokens: only the clause with the "
                "finding and its place is used", len(self.short), what, self.limit,
            )  # fmt: skip
