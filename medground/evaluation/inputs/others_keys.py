"""The keys by which programs of others name the phrase, the image and the text of an item.

The first key of each list that an item has counts. `PHRASE` and `TEXT` are of batches of OpenAI's and
Gemini's servers, LLaVA, vLLM and ms-swift, `IMAGE` and `WORDS` of these, RadVLM and CheXagent.

`phrase_id` must be a phrase of the truth. An id under another key may also name an image, or mean nothing in
the truth if the item has an image. The words of a phrase decide if its image has several phrases.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medground.errors import BadRecord

PHRASE = ("custom_id", "question_id", "key", "id")
IMAGE = ("dicom_id", "img_path", "image_path", "image", "images", "image_file", "file_name")
WORDS = ("label", "phrase", "expression", "sentence", "instr", "question", "prompt")
TEXT = (
    *("output", "response", "prediction", "generated_text", "outputs"),
    *("result", "choices", "text", "answer"),
)
ALL = frozenset((*PHRASE, *IMAGE, *WORDS, *TEXT, "phrase_id", "image_id"))
_ONE_OF_SEVERAL = ("choices", "candidates", "outputs")
_INSIDE = ("body", *_ONE_OF_SEVERAL, "message", "content", "parts")


@dataclass(frozen=True, slots=True)
class Owner:
    """The phrase that an item is about.

    loose: `phrase` is under a key of other programs, so it may also be an image, or no id of the truth.
    words: of the phrase.
    """

    image: str | None
    phrase: str | None
    loose: bool = False
    words: str | None = None


def owner(item: Mapping[str, Any]) -> Owner:
    """Return the phrase that an item is about; raise BadRecord if it names neither phrase nor image."""
    image = text_of(item.get("image_id"), "image_id")
    image = image or next((name for key in IMAGE if (name := _image(item.get(key)))), None)
    phrase = text_of(item.get("phrase_id"), "phrase_id")
    words = next((each for key in WORDS if isinstance(each := item.get(key), str) and each), None)
    if phrase is not None:
        return Owner(image, phrase)
    other = next((str(item[key]) for key in PHRASE if _is_id(item.get(key))), None)
    if image is None and other is None:
        raise BadRecord("this key is missing", "phrase_id")
    return Owner(image, other, loose=other is not None, words=words)


def text_of(value: Any, name: str) -> str | None:
    """Return an identifier as text: those of other tools may be whole numbers."""
    if value is None:
        return None
    if not _is_id(value):
        raise BadRecord("expected a text or a whole number", name)
    return str(value)


def _is_id(value: Any) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _image(value: Any) -> str | None:
    """Return the name of an image: a text, the `path` of an object, or the first of a list."""
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, dict):
        value = value.get("path")
    return value if isinstance(value, str) and value else None


def answer(item: Mapping[str, Any]) -> str:
    """Return the text of the model in an item; raise BadRecord if there is none."""
    key = next((each for each in TEXT if item.get(each) is not None), None)
    if key is None:
        raise BadRecord("this key is missing", "output")
    value = item[key]
    if not isinstance(value, str | list | dict):
        raise BadRecord("expected a text, a list or an object", key)
    return _text(value[0] if key in _ONE_OF_SEVERAL and isinstance(value, list) and value else value)


def _text(value: Any) -> str:
    """Return the text in the answer of a server, or a value of a processor as JSON."""
    while isinstance(value, dict) and (key := next((each for each in _INSIDE if each in value), None)):
        value = value[key]
        if key in _ONE_OF_SEVERAL and isinstance(value, list) and value:
            value = value[0]
    if isinstance(value, str):
        return value
    parts = [_part(each) for each in value] if isinstance(value, list) else [_part(value)]
    if parts and all(each is not None for each in parts) and any(map(_is_prose, parts)):
        return "\n".join(each or "" for each in parts)
    return json.dumps(value)


def _part(value: Any) -> str | None:
    """Return the text of one part of an answer, "" for a thought; None if it is no such part."""
    if (
        isinstance(value, dict)
        and isinstance(value.get("text"), str)
        and not any("box" in key for key in value)
    ):
        return "" if value.get("thought") is True else value["text"]
    return value if isinstance(value, str) else None


def _is_prose(text: str | None) -> bool:
    """Return whether a text is more than a number or a word, as the processor of a model splits them."""
    return text is not None and any(each in text for each in "[(<{ ")
