"""Texts as token ids by a saved tokenizer.json, without transformers. Letters: U texts, T tokens."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SPECIAL_TOKENS = 2  # at the start and the end of a text
MULTIPLE = 8  # T is a multiple of it: few shapes need few compiled kernels, and less memory


class SavedTokenizer:
    """The tokenizer of a tokenizer.json; it replaces that of transformers where only its ids are needed.

    pad: the id of padding.
    """

    def __init__(self, path: Path, pad: int):
        from tokenizers import Tokenizer

        self.pad = pad
        self._whole, self._cut = (Tokenizer.from_str(path.read_text()) for _ in range(2))
        for each in (self._whole, self._cut):
            each.no_padding()
            each.no_truncation()

    def __call__(self, text: str) -> dict[str, list[int]]:
        """Return the `input_ids` of one text, as a tokenizer of transformers does."""
        return {"input_ids": self._whole.encode(text).ids}

    def arrays(self, texts: list[str], most: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return (U, T) ids and mask of the texts; see `encoders.tokenize`, which returns the same."""
        self._cut.enable_truncation(most)
        found = [self._cut.encode(each).ids for each in texts]
        return padded(found, most, self.pad)


def padded(found: list[list[int]], most: int, pad: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return (U, T) ids and mask of lists of ids; T is a multiple of 8, or `most`."""
    longest = max(map(len, found))
    ids = np.full((len(found), min(longest + -longest % MULTIPLE, most)), pad, np.int64)
    mask = np.zeros(ids.shape, bool)
    for row, each in enumerate(found):
        ids[row, : len(each)], mask[row, : len(each)] = each, True
    return ids, mask


def of_export(folder: Path, pad: Any) -> Any:
    """Return the tokenizer of an export: the saved one, or that of transformers if `pad` is None."""
    if isinstance(pad, int):
        return SavedTokenizer(folder / "tokenizer.json", pad)
    from medground.models import grounder

    return grounder.load_tokenizer(folder)
