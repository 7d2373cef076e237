"""Text output of vision-language models: JSON lines, one JSON list, or an object with the items.

An item has the text, or the list or object that the model's processor makes of it, in `output` or under a key
of another program (`others_keys`). `answers.texts` reads the boxes. They keep their order in the text and
have the score 1.
"""

import logging
from dataclasses import dataclass, field
from typing import Any

from medground import jsonl
from medground.answers import texts
from medground.evaluation.inputs import files, items, others_keys
from medground.evaluation.inputs.readers import Answer, Reader, Take

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One line of a text format.

    coordinates: the frame of its boxes, if the lines differ.
    input_width, input_height: the size of the resized image, whose pixels the boxes are in; the same as
    resized_width and resized_height, as in messages for Qwen.
    """

    output: str | list[Any] | dict[str, Any] | None = None
    phrase_id: str | int | None = None
    image_id: str | int | None = None
    coordinates: str | None = None
    input_width: int | None = None
    input_height: int | None = None
    resized_width: int | None = None
    resized_height: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass
class _Counts:
    """The number of texts that are not empty, of those with a box, and of lists that cannot be read."""

    texts: int = 0
    with_box: int = 0
    unreadable: int = 0

    def warn(self, source: str, kind: str, form: str) -> None:
        """Warn if no text has a box, and of unreadable lists."""
        if self.texts and not self.with_box:
            log.warning(
                "%s: no box in any of %d texts; is it --input-format %s, which writes %s?",
                *(source, self.texts, kind, form),
            )
        if self.unreadable:
            log.warning(
                "%s: left out %d lists that are broken off or do not have four numbers",
                *(source, self.unreadable),
            )


def _frame_of(said: Said) -> str | None:
    """Return the frame that a line states, None if it states none."""
    if said.coordinates is not None:
        return said.coordinates
    for width, height in (
        (said.input_width, said.input_height),
        (said.resized_width, said.resized_height),
    ):
        if width is not None and height is not None:
            return f"stretch:{width}x{height}"
    return None


def _reader(kind: str, parse: texts.Parse, form: str) -> Reader:
    """Return the reader of a format; `form` shows its boxes in messages."""

    def read(stream: files.Hashed, bad_lines: jsonl.BadLines, take: Take) -> None:
        counts = _Counts()

        def check(said: Said) -> None:
            item = said.extra | {
                "output": said.output,
                "phrase_id": said.phrase_id,
                "image_id": said.image_id,
            }
            whose, text = others_keys.owner(item), others_keys.answer(item)
            found = parse(text)
            own = _frame_of(said)
            take(
                Answer(
                    whose.image,
                    whose.phrase,
                    [(box, 1.0) for box in found.boxes],
                    whole=True,
                    frame=own or found.frame,
                    sure=own is not None,
                    label=whose.words,
                    loose=whose.loose,
                )
            )
            boxes = found.boxes
            counts.texts += bool(text.strip())
            counts.with_box += bool(boxes)
            counts.unreadable += found.unreadable

        items.read(stream, Said, bad_lines, check, others_keys.ALL)
        counts.warn(stream.name, kind, form)

    return read


read_maira_2 = _reader("maira-2", texts.maira_2, "<box><x10><y20><x30><y40></box>")
read_radvlm = _reader("radvlm", texts.shares, "[0.1, 0.2, 0.3, 0.4]")
read_llava = _reader("llava", texts.shares, "[0.1, 0.2, 0.3, 0.4]")
read_qwen_vl = _reader("qwen-vl", texts.qwen, '{"bbox_2d": [118, 491, 432, 753]}')
read_qwen2_5_vl = _reader("qwen2.5-vl", texts.qwen, '{"bbox_2d": [118, 491, 432, 753]}')
read_gemini = _reader("gemini", texts.gemini, '{"box_2d": [491, 118, 753, 432]}')
read_medgemma = _reader("medgemma", texts.gemini, '{"box_2d": [491, 118, 753, 432]}')
read_paligemma = _reader("paligemma", texts.paligemma, "<loc0502><loc0121><loc0770><loc0442>")
read_florence_2 = _reader("florence-2", texts.florence_2, "<loc_118><loc_490><loc_432><loc_752>")
read_deepseek_vl2 = _reader("deepseek-vl2", texts.deepseek_vl2, "<|det|>[[118, 491, 432, 753]]<|/det|>")
read_chexagent_2 = _reader("chexagent-2", texts.chexagent_2, "<|box|>(12,49),(43,75)<|/box|>")
