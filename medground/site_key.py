"""The site key: the secret that hashes IDs of patients and images in training records.

IDs are short, so a plain hash of one can be reversed by trying them all. With the key it cannot, except by
the key's owners. The key is a file of 64 hexadecimal digits. $MEDGROUND_SITE_KEY names it; the default is
medground/site.key in the user's config folder. The first training creates it, readable only by its owner. All
processes, machines and users of a site need the same file: their models are then checked against each other.
"""

import hashlib
import hmac
import logging
import os
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from medground.errors import MedgroundError

log = logging.getLogger(__name__)
VARIABLE = "MEDGROUND_SITE_KEY"
SIZE = 32  # bytes of the secret
DIGITS = 16  # of each digest
PUBLIC = "public"  # in place of the name of a key: the IDs are those of published data


@dataclass(frozen=True)
class SiteKey:
    """The secret of a site."""

    secret: bytes = field(repr=False)

    @property
    def name(self) -> str:
        """16 hexadecimal digits that identify the key and do not reveal it."""
        return self.digest("the name of this site key")

    def digest(self, text: str) -> str:
        """Return the 16 hexadecimal digits for a subject_id or an image_id (HMAC-SHA256, shortened)."""
        return hmac.digest(self.secret, text.encode("utf-8", "surrogatepass"), "sha256").hex()[:DIGITS]


def unkeyed_digest(text: str) -> str:
    """Return the digest that anyone can compute: of public data, and of versions before the site key."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:DIGITS]


def path() -> Path:
    """Return the path of the key file, which need not exist."""
    if named := os.environ.get(VARIABLE):
        return Path(named)
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(config, "medground", "site.key")


def find() -> SiteKey | None:
    """Return the site key, None if there is no file.

    Raises MedgroundError if the file cannot be read or is no key. Warns if other users can read it.
    """
    file = path()
    try:
        content, mode = file.read_bytes(), file.stat().st_mode
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _problem(file, error.strerror) from None
    if mode & 0o007:
        log.warning("%s: every user of this machine can read the site key: chmod o= it", file)
    if not re.fullmatch(rb"[0-9a-f]{%d}\s*" % (2 * SIZE), content):
        raise _problem(file, f"not a site key, which is {2 * SIZE} hexadecimal digits")
    return SiteKey(bytes.fromhex(content.decode()))


def find_or_create() -> SiteKey:
    """Return the site key, created if there is none; processes that start at once agree on one."""
    if (known := find()) is not None:
        return known
    file = path()
    partial = file.with_name(f"{file.name}.{secrets.token_hex(4)}.partial")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(partial)
        try:
            with suppress(FileExistsError):  # another process was first
                os.link(partial, file)
                log.warning("%s: created the site key; keep it, later checks for leakage need it", file)
        finally:
            partial.unlink()
    except OSError as error:
        raise _problem(file, error.strerror) from None
    if (created := find()) is None:
        raise _problem(file, "a link to a file that does not exist")
    return created


def _write(path: Path) -> None:
    """Write a new key that only its owner can read."""
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(number, "w") as stream:
        stream.write(secrets.token_hex(SIZE) + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def _problem(file: Path, problem: str | None) -> MedgroundError:
    return MedgroundError(f"{file}: {problem}; name the site key with {VARIABLE}, or train with --no-record")
