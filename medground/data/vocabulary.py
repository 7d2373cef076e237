"""The words that a new model's tokenizer may hold whole, so that no name and no number leaves with the model.

A tokenizer is a readable list of words. It holds the words of the report lexicon, of region names and of
English grammar. Another word of the training texts is held only if it

- has letters only: numbers are split into digits,
- is in lower case at least `MIN_COUNT` times: names of persons and places are capitalized,
- is so in texts of at least `MIN_PATIENTS` patients.

All other words are split into letters, which can still express any word.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from functools import lru_cache

from medground.anatomy import regions
from medground.data.examples import Example
from medground.leakage import bare
from medground.reports import paraphrase
from medground.reports.english import grammar_words
from medground.reports.parser import Parser

MIN_COUNT = 20
MIN_PATIENTS = 10
_WORD = re.compile(r"[^\W_]+")


def words_for(examples: Iterable[Example], more: Iterable[str] = ()) -> list[str]:
    """Return the words for a new tokenizer, sorted; `more` has texts that are not from reports."""
    public = {word for text in (*more, *_names()) for word in _WORD.findall(text.lower())}
    return sorted(public | paraphrase.vocabulary(Parser()) | grammar_words() | common_words(examples))


def common_words(examples: Iterable[Example]) -> set[str]:
    """Return the lower-case words of the examples' texts that are frequent, and in texts of many patients."""
    counts: Counter[str] = Counter()
    patients: defaultdict[str, set[str]] = defaultdict(set)
    for example in examples:
        patient = bare(example.subject_id or "") or example.study_id or example.image_id
        for text in _texts(example):
            for word in _plain_words(text):
                counts[word] += 1
                if len(found := patients[word]) < MIN_PATIENTS:
                    found.add(patient)
    return {
        word for word, count in counts.items() if count >= MIN_COUNT and len(patients[word]) >= MIN_PATIENTS
    }


@lru_cache(maxsize=4096)  # all images repeat the names of regions
def _plain_words(text: str) -> list[str]:
    return [word for word in _WORD.findall(text) if word.isalpha() and word.islower()]


def _texts(example: Example) -> Iterator[str]:
    """Yield the texts of an example's own report; denials are made from texts of other patients."""
    for query in (*example.terms, *example.sentences):
        yield from query.texts
    yield from example.report


def _names() -> Iterator[str]:
    for name, synonyms in regions.SYNONYMS.items():
        yield from (name, *synonyms)
