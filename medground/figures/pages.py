"""Self-contained HTML pages: a jinja2 template of a room, with embedded pictures.

A page contains images and report text, so the same data use agreement applies to it.
"""

import base64
import io
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

QUALITY = 85


def render(room: str, name: str, **values: object) -> bytes:
    """Return the template NAME of a package as UTF-8; values are escaped, and a missing value is an error."""
    import jinja2

    source = files(room).joinpath(name).read_text(encoding="utf-8")
    shown = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return shown.from_string(source).render(**values).encode()


def embedded(picture: "Image.Image", quality: int = QUALITY) -> str:
    """Return the picture as a JPEG data URI for an <img>."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
