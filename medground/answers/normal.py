"""Answers to questions in the form in which they are compared.

The rule is that of the VQA challenge (Antol et al., ICCV 2015): lower case, no articles, no punctuation, and
numbers of one word as digits.
"""

import re
import unicodedata

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
DIGITS = {word: str(number) for number, word in enumerate(NUMBERS)} | {"none": "0"}
ARTICLES = {"a", "an", "the"}
IN_NUMBERS = re.compile(r"(?<=\d),(?=\d{3})")  # a comma between thousands
WHOLE = re.compile(r"\b(\d+)\.0+\b")
PUNCTUATION = re.compile(r"(?<!\d)[.]|[.](?!\d)|[^\w\s.%'’]|_")
APOSTROPHES = re.compile(r"['’]")


def normal(answer: str) -> str:
    """Return the answer in the form in which equal answers are equal.

    >>> normal("The left-sided one."), normal("Two"), normal("3.0"), normal("1,000 mL")
    ('left sided 1', '2', '3', '1000 ml')

    An answer of articles and punctuation only keeps them.
    """
    text = unicodedata.normalize("NFKC", answer).lower()
    text = WHOLE.sub(r"\1", IN_NUMBERS.sub("", text))
    words = PUNCTUATION.sub(" ", APOSTROPHES.sub("", text)).split()
    kept = [DIGITS.get(word, word) for word in words if word not in ARTICLES]
    return " ".join(kept) or " ".join(text.split())
