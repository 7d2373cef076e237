"""Boxes in the text of vision-language models: one pure function per model, in linear time.

Each function returns the numbers as the model writes them, ordered x1, y1, x2, y2, in the order of the text.
Bins become their middle where the model's own processor does so. `registry.PREDICTION_FORMATS` has the units
(`frames`). Fences and words around the boxes are skipped. A list that is broken off, or has another length
than four, is counted as unreadable.

| model | form | source |
|---|---|---|
| qwen | `{"bbox_2d": [x1, y1, x2, y2]}`, `<|box_start|>(x1,y1),(x2,y2)<|box_end|>` | QwenLM/Qwen3-VL#866 |
| gemini | `{"box_2d": [y1, x1, y2, x2]}`, also MedGemma | Vertex AI's and MedGemma's documentation |
| paligemma | `<loc0502><loc0121><loc0770><loc0442> label`: y1, x1, y2, x2 | big_vision, bins / 1024 |
| florence_2 | `words<loc_118><loc_490><loc_432><loc_752>`, or `{"bboxes": ...}` in pixels | its processor |
| deepseek_vl2 | `<|ref|>words<|/ref|><|det|>[[x1, y1, x2, y2]]<|/det|>` | deepseek-ai/DeepSeek-VL2#100 |
| chexagent_2 | `<|ref|>words<|/ref|><|box|>(x1,y1),(x2,y2)<|/box|>` | Stanford-AIMI/CheXagent |
| maira_2 | `<box><x10><y20><x30><y40></box>`, or what its processor makes of it | its processor |
| shares | `[x1, y1, x2, y2]` in words: RadVLM, LLaVA | haotian-liu/LLaVA#606 |
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from medground.errors import BadRecord
from medground.records import Box

# Nothing is matched in two ways (++ and *+ never give back), so that a text is read in linear time.
_NUMBER = r"\s*+[\"']?+([-+]?(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][-+]?\d++)?)[\"']?+\s*+"
_FOUR = ",".join([_NUMBER] * 4)
_LIST = re.compile(rf"[\[(]{_FOUR},?+\s*+[\])]")
_SQUARE = re.compile(rf"\[{_FOUR}\]")
_POINTS = re.compile(rf"\({_NUMBER},{_NUMBER}\)\s*+,?+\s*+\({_NUMBER},{_NUMBER}\)")
_BINS = re.compile(r"<box>" + "".join(rf"\s*+<{axis}(\d++)>" for axis in "xyxy") + r"\s*+</box>")
_LOC_4 = re.compile(r"(?:<loc\d{4}>\s*+)++")  # of PaliGemma
_LOC_ = re.compile(r"(?:<loc_\d++>\s*+)++")  # of Florence-2
_BOX_START, _DET, _BOX = (re.compile(each) for each in (r"<\|box_start\|>|<box>", r"<\|det\|>", r"<\|box\|>"))
_BBOX_2D, _BOX_2D, _BBOXES = (
    re.compile(rf"[\"'](?:{names})[\"']\s*+:") for names in ("bbox_2d|bbox", "box_2d|bbox_2d|box", "bboxes")
)
_ADJUSTED = re.compile(
    r"[\"']image_coordinates[\"']\s*+:"
)  # of MedRAX, after adjust_box_for_original_image_size
_DIGITS = re.compile(r"\d++")
_SPACE = re.compile(r"[\s,]*+")
_NOTHING = re.compile(r"\s*+(?:null|None|\[[\[\s]*+\])")
_BROKEN = re.compile(r"[\[(]\s*+[-+.\d][-+.,\d\s]*+\Z")  # a list that the end of the text breaks off
_TRACES = (("<think>", "</think>"), ("<unused94>", "<unused95>"))  # of Qwen3-VL and MedGemma
MAX_DIGITS = 6  # of a bin; models write at most four


@dataclass(frozen=True, slots=True)
class Found:
    """The boxes of a text, and how many of its lists could not be read.

    frame: what the boxes are measured in, if it is another frame than the model's usual one.
    """

    boxes: list[Box]
    unreadable: int = 0
    frame: str | None = None


Parse = Callable[[str], Found]


def without_trace(text: str) -> str:
    """Return the text after the model's trace of thought, "" if the trace does not end."""
    for begin, end in _TRACES:
        _, ended, answer = text.rpartition(end)
        text = answer if ended else text.partition(begin)[0]
    return text


def qwen(text: str) -> Found:
    """Return the boxes of Qwen2-VL, Qwen2.5-VL or Qwen3-VL."""
    text = without_trace(text)
    return _first(
        _after(_BOX_START, text, _POINTS),
        _after(_BBOX_2D, text, _LIST),
        lambda: _all(_LIST, text),
        lambda: _all(_POINTS, text),
    )


def gemini(text: str) -> Found:
    """Return the boxes of Gemini or MedGemma, which write y before x."""
    text = without_trace(text)
    return _turned(_first(_after(_BOX_2D, text, _LIST), lambda: _all(_LIST, text)))


def paligemma(text: str) -> Found:
    """Return the boxes of PaliGemma, which writes y before x, as bins of 1024."""
    return _turned(_of_runs(_LOC_4, text, 1024, 0.0))


def florence_2(text: str) -> Found:
    """Return the boxes of Florence-2: the middles of bins of 1000, or pixels of its processor's output."""
    bins = _of_runs(_LOC_, text, 1000, 0.5)
    if bins.boxes or bins.unreadable:
        return bins
    pixels = _after(_BBOXES, text, _LIST)()
    return Found(pixels.boxes, pixels.unreadable, "original")


def deepseek_vl2(text: str) -> Found:
    """Return the boxes of DeepSeek-VL2."""
    return _first(_after(_DET, text, _LIST), lambda: _all(_LIST, text))


def chexagent_2(text: str) -> Found:
    """Return the boxes of CheXagent-2."""
    return _first(_after(_BOX, text, _POINTS), lambda: _all(_POINTS, text))


def maira_2(text: str) -> Found:
    """Return the boxes of MAIRA-2: the middles of bins of 100, or fractions of its processor's output."""
    adjusted = _after(_ADJUSTED, text, _LIST)()
    if adjusted.boxes:
        return Found(adjusted.boxes, adjusted.unreadable, "normalised")
    bins = [_in_order([(_bin(each, 100) + 0.5) / 100 for each in found]) for found in _BINS.findall(text)]
    begun = text.count("<box>")
    return Found(bins, begun - len(bins)) if begun else _all(_LIST, text)


def shares(text: str) -> Found:
    """Return the boxes of RadVLM or LLaVA."""
    return _all(_SQUARE, text)


def _first(*ways: Callable[[], Found]) -> Found:
    """Return what the first way finds that finds anything."""
    unreadable = 0
    for way in ways:
        found = way()
        if found.boxes:
            return found
        unreadable = max(unreadable, found.unreadable)
    return Found([], unreadable)


def _all(pattern: re.Pattern[str], text: str) -> Found:
    boxes = [_in_order([float(each) for each in match]) for match in pattern.findall(text)]
    return Found(boxes, int(_BROKEN.search(text) is not None))


def _after(mark: re.Pattern[str], text: str, pattern: re.Pattern[str]) -> Callable[[], Found]:
    """Return the function that reads one box or a list of boxes after each mark."""

    def read() -> Found:
        boxes: list[Box] = []
        unreadable = 0
        for match in mark.finditer(text):
            own, broken = _sequence(text, match.end(), pattern)
            boxes += own
            unreadable += broken or not (own or _NOTHING.match(text, match.end()))
        return Found(boxes, unreadable)

    return read


def _sequence(text: str, place: int, pattern: re.Pattern[str]) -> tuple[list[Box], bool]:
    """Return the boxes from a place of the text on, and whether a list follows that is no box.

    They may be inside one more pair of brackets.
    """
    boxes: list[Box] = []
    place = _after_space(text, place)
    found = pattern.match(text, place)
    if found is None and text.startswith("[", place):
        place = _after_space(text, place + 1)
        found = pattern.match(text, place)
    while found:
        boxes.append(_in_order([float(each) for each in found.groups()]))
        place = _after_space(text, found.end())
        found = pattern.match(text, place)
    return boxes, bool(boxes) and text.startswith(("[", "("), place)


def _after_space(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return found.end() if found else place


def _of_runs(runs: re.Pattern[str], text: str, bins: int, middle: float) -> Found:
    """Return the boxes of runs of tokens, one token per number."""
    boxes: list[Box] = []
    unreadable = 0
    for run in runs.findall(text):
        found = [_bin(each, bins) + middle for each in _DIGITS.findall(run)]
        boxes += [_in_order(found[start : start + 4]) for start in range(0, len(found) - 3, 4)]
        unreadable += len(found) % 4 > 0
    return Found(boxes, unreadable)


def _bin(digits: str, bins: int) -> int:
    if len(digits) > MAX_DIGITS:
        raise BadRecord(f"expected bins from 0 to {bins - 1}", "output")
    return int(digits)


def _in_order(numbers: Sequence[float]) -> Box:
    x1, y1, x2, y2 = numbers
    return x1, y1, x2, y2


def _turned(found: Found) -> Found:
    return Found([(x1, y1, x2, y2) for y1, x1, y2, x2 in found.boxes], found.unreadable, found.frame)
