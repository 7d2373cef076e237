"""The words of English grammar."""

from medground.compat import run_file


def grammar_words() -> set[str]:
    """Return the words that spaCy lists, such as "between"."""
    return {word for word in run_file("spacy", "lang/en/stop_words.py")["STOP_WORDS"] if word.isalpha()}
