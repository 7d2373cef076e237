"""Names of files for an image or a phrase: safe, and the same in every run.

Ids may have characters that file names may not (`|`, `/`), and a phrase_id may occur on several images. So a
name has the image_id before the phrase_id. If the ids cannot be recovered from it, it also has digits of a
hash.
"""

import hashlib
import re

MOST_BYTES = 100  # of an id in a name: two of them stay well under the limit of most disks, 255


def of_image(image_id: str) -> str:
    """Return the image_id if it is a safe name; otherwise a readable name with digits of its hash."""
    name = _safe(image_id)
    return name if name == image_id else f"{name}-{_digits(image_id)}"


def of_phrase(image_id: str, phrase_id: str) -> str:
    """Return film0_1 for phrase `film0|1` of image film0; for other ids, both with digits of their hash."""
    own = phrase_id.removeprefix(f"{image_id}|")
    name = f"{_safe(image_id)}_{_safe(own)}"
    plain = own != phrase_id and own.isascii() and own.isdigit() and _safe(image_id) == image_id
    return name if plain and _safe(own) == own else f"{name}-{_digits(image_id, phrase_id)}"


def _safe(name: str) -> str:
    """Return the id with letters, digits, _, - and . only, cut to `MOST_BYTES`.

    It does not start with a dot.
    """
    kept = re.sub(r"^\.|[^\w.-]+", "_", name) or "_"
    return kept.encode()[:MOST_BYTES].decode(errors="ignore")


def _digits(*ids: str) -> str:
    whole = "\0".join(ids).encode(errors="surrogatepass")
    return hashlib.blake2b(whole, digest_size=4).hexdigest()
