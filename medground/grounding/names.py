"""Names of files that are written for an image or a phrase: safe, and the same in every run.

Ids may hold what file names may not (`|`, `/`), and a phrase_id may come again on another image. So a name
has the image_id before the phrase_id, and where ids could not be read back from it, digits of a hash.
"""

import hashlib
import re

MOST_BYTES = 100  # of an id in a name: two of them stay well under the 255 of most disks


def of_image(image_id: str) -> str:
    """Return the image_id where it is a name as it is; else a readable one with digits of its hash."""
    name = _safe(image_id)
    return name if name == image_id else f"{name}-{_digits(image_id)}"


def of_phrase(image_id: str, phrase_id: str) -> str:
    """film0_1 for phrase film0|1 of image film0; of other ids both, with digits of their hash."""
    own = phrase_id.removeprefix(f"{image_id}|")
    name = f"{_safe(image_id)}_{_safe(own)}"
    plain = own != phrase_id and own.isascii() and own.isdigit() and _safe(image_id) == image_id
    return name if plain and _safe(own) == own else f"{name}-{_digits(image_id, phrase_id)}"


def _safe(name: str) -> str:
    """Return the id with letters, digits, _, - and . only, none of them a dot at the start, and not too
    long.
    """
    kept = re.sub(r"^\.|[^\w.-]+", "_", name) or "_"
    return kept.encode()[:MOST_BYTES].decode(errors="ignore")


def _digits(*ids: str) -> str:
    whole = "\0".join(ids).encode(errors="surrogatepass")
    return hashlib.blake2b(whole, digest_size=4).hexdigest()
