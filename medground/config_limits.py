"""Limits of the numbers in the config of a network from a stranger, checked before anything is built.

A network with a billion layers would be built for minutes, until memory ends. The limits are above those of
all published encoders and detectors. `models.building` then limits the number of weights.

| limit | value | applies to |
|---|---|---|
| `MAX_LAYERS` | 1000 | layers, blocks, stages and members, each or all in a list; entries of a list |
| `MAX_SIDE` | 4096 | sides of images, in pixels |
| `MAX_NUMBER` | 67 million | any other whole number, such as a width or the size of a vocabulary |
"""

import re
from collections.abc import Iterator
from typing import Any

from medground.errors import MedgroundError

MAX_LAYERS, MAX_SIDE, MAX_NUMBER = 1000, 4096, 1 << 26
LABELS = ("id2label", "label2id")  # their keys are names of classes
_LAYERS = re.compile(r"(^|_)(layers?|depths?|blocks|stages|members|repeats)$")
_SIDES = re.compile(r"(^|_)(image_size|img_size|input_size|height)$|^size$")


def check(config: Any, place: object) -> None:
    """Raise MedgroundError with the key if a number in a config, or a list of numbers, is beyond a limit."""
    for key, value in _numbers(config):
        several = value if isinstance(value, list) else [value]
        most = MAX_LAYERS if _LAYERS.search(key) else MAX_SIDE if _SIDES.search(key) else MAX_NUMBER
        total = sum(map(abs, several)) if most == MAX_LAYERS else max(map(abs, several), default=0)
        if total > most or len(several) > MAX_LAYERS:
            raise MedgroundError(
                f"{place}: {key}: more than {most:,}; no network that medground knows is larger"
            )


def _numbers(config: Any, key: str = "config") -> Iterator[tuple[str, int | list[int]]]:
    """Yield the whole numbers of a config with their keys; those of a list together."""
    if isinstance(config, dict):
        for name, value in config.items():
            if name not in LABELS:
                yield from _numbers(value, str(name))
    elif isinstance(config, list | tuple):
        if numbers := [each for each in config if _is_whole(each)]:
            yield key, [int(each) for each in numbers]
        for each in config:
            if isinstance(each, dict | list | tuple):
                yield from _numbers(each, key)
    elif _is_whole(config):
        yield key, int(config)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
