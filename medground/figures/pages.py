"""Pages that need nothing beside them: a jinja2 template of a room, with pictures inside.

A page holds films and words of reports, so it falls under the same agreement as they do.
"""

import base64
import io
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

QUALITY = 85


def render(room: str, name: str, **values: object) -> bytes:
    """The template NAME of a package as UTF-8; values are escaped, and one that it lacks is an error."""
    import jinja2

    source = files(room).joinpath(name).read_text(encoding="utf-8")
    shown = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return shown.from_string(source).render(**values).encode()


def embedded(picture: "Image.Image", quality: int = QUALITY) -> str:
    """The picture as a data URI that an <img> can show, as JPEG."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
