"""The schema of the architecture in a YOLO checkpoint's header: plain data that names layers.

ultralytics evaluates parts of an architecture (`activation`) and looks layers up by name. A checkpoint from a
stranger must not reach either, so its architecture is checked here first, and again for its layer classes in
`yolo_process`.
"""

from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct, ValidationError, convert

from medground.errors import MedgroundError

MAX_LAYERS = 300
Width = Annotated[int, Meta(ge=-MAX_LAYERS, le=8192)]  # of a layer; -1 and the like count layers backwards
Factor = Annotated[float, Meta(ge=0, le=100_000)]
Name = Annotated[str, Meta(pattern=r"^(nn\.)?[A-Za-z][A-Za-z0-9_]{0,40}$")]
Word = Annotated[str, Meta(pattern=r"^[A-Za-z]{1,20}$")]
Argument = None | bool | Width | Annotated[float, Meta(ge=-1e6, le=1e6)] | Word | list[Width]
Layer = tuple[Width | list[Width], Annotated[int, Meta(ge=1, le=100)], Name, list[Argument]]
Layers = Annotated[list[Layer], Meta(max_length=MAX_LAYERS)]


class Architecture(Struct, forbid_unknown_fields=True):
    """The keys of a YOLO architecture that are read; `activation`, which would be evaluated, is not one."""

    backbone: Layers
    head: Layers
    nc: Width = 1
    channels: Width = 3
    ch: Width = 3
    end2end: bool = False
    reg_max: Width = 16
    scale: Word = "n"
    scales: dict[Word, list[Factor]] = {}
    depth_multiple: Factor = 1.0
    width_multiple: Factor = 1.0
    max_channels: Factor = 1024
    yaml_file: str = ""


def check(config: dict[str, Any], path: Path) -> None:
    """Raise MedgroundError unless `cfg`, `names` and `size` of a checkpoint's config follow the schema."""
    try:
        convert(config["cfg"], Architecture)
        convert(config["names"], Annotated[list[str], Meta(min_length=1, max_length=10_000)])
        convert(config["size"], Annotated[int, Meta(ge=32, le=8192)])
    except (KeyError, ValidationError):
        raise MedgroundError(f"{path}: not an architecture of YOLO layers; nothing of it was run") from None


def layer_names(config: dict[str, Any]) -> set[str]:
    """Return the names of all layers of a checked architecture."""
    return {name for part in ("backbone", "head") for _, _, name, _ in config["cfg"][part]}
