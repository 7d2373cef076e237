"""Token ids as text.

The words of a WordPiece tokenizer are in lower case and apart from all punctuation. Here "follow - up"
becomes "follow-up", "1 . 5" becomes "1.5", and a sentence starts with a capital letter and ends with a mark.
Other tokenizers keep their spaces. A report has each sentence once: repetitions are left out. The search
could avoid them instead, but greedy search would then continue the sentence with words that the model did
not choose.
"""

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PIECE = "##"  # before a part of a word that is not its first
JOINED = (  # pattern and replacement, in this order
    (re.compile(r" ([.,;:!?%)\]}])"), r"\1"),
    (re.compile(r"([(\[{]) "), r"\1"),
    (re.compile(r"(?<=\w) ([-/']) (?=\w)"), r"\1"),
    (re.compile(r"(?<=\d)\. (?=\d)"), "."),
    (re.compile(r"(?<=_) (?=_)"), ""),
)
ENDS = (".", "!", "?", ":")


def report_of(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int]) -> str:
    """Return the text of a report, each sentence once; they are separated by the separator token."""
    sentences = dict.fromkeys(sentence_of(tokenizer, each) for each in _sentences(tokenizer, ids))
    return " ".join(filter(None, sentences))


def sentence_of(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int]) -> str:
    """Return a sentence with a capital letter and an end mark; "" without a word."""
    text = words_of(tokenizer, ids)
    if not text:
        return ""
    return text[0].upper() + text[1:] + ("" if text.endswith(ENDS) else ".")


def words_of(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int]) -> str:
    """Return the words of token ids as text, without special tokens."""
    if not _is_word_piece(tokenizer):
        plain: dict[str, bool] = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
        return str(tokenizer.decode(list(ids), **plain)).strip()  # type: ignore[arg-type]
    special = {*tokenizer.all_special_ids}
    pieces = [str(each) for each in tokenizer.convert_ids_to_tokens([n for n in ids if n not in special])]
    text = " ".join(pieces).replace(f" {PIECE}", "").removeprefix(PIECE)
    for pattern, replacement in JOINED:
        text = pattern.sub(replacement, text)
    return text


def _is_word_piece(tokenizer: "PreTrainedTokenizerBase") -> bool:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return type(getattr(backend, "model", None)).__name__ == "WordPiece"


def _sentences(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int]) -> Iterator[list[int]]:
    """Yield the parts between separator tokens."""
    part: list[int] = []
    for each in ids:
        if each == tokenizer.sep_token_id:
            yield part
            part = []
        else:
            part.append(each)
    yield part
