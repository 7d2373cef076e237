"""Bytes of reports as text: UTF-8, UTF-16 and Windows-1252.

Latin-1 is not used: it turns the dashes and quotes of Windows-1252 into control characters. The five bytes
that Windows-1252 does not define keep their code.
"""

import codecs
import io
import logging
from collections.abc import Iterable, Iterator

from medground.limits import LongLine

log = logging.getLogger(__name__)

START = 65_536  # bytes that decide whether a file is UTF-16
_DEFINED = {code: bytes([code]).decode("cp1252", "ignore") or chr(code) for code in range(0x80, 0xA0)}
_BOMS = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


class Decoder:
    """Conversion of bytes to text: UTF-8, or Windows-1252 for those that are not; warns once."""

    def __init__(self, what: str = "such lines"):
        self._what, self._warned = what, False

    def __call__(self, content: bytes, place: str) -> str:
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError:
            if not self._warned:
                self._warned = True
                log.warning("%s: not UTF-8; %s are read as Windows-1252", place, self._what)
            return content.decode("latin-1").translate(_DEFINED)


def utf16(start: bytes) -> str | None:
    """Return the codec of a file with this start if it is UTF-16, by its mark or else by its zero bytes.

    Without a mark, most high bytes are zero, no low byte is, and the text has letters and no control
    characters.
    """
    if start[:2] in _BOMS:
        return _BOMS[start[:2]]
    start = start[: min(len(start), START) // 2 * 2]
    for codec, low, high in (("utf-16-le", start[::2], start[1::2]), ("utf-16-be", start[1::2], start[::2])):
        if high and 0 not in low and high.count(0) >= 0.7 * len(high):
            text = start.decode(codec, "replace")
            if any("a" <= each.lower() <= "z" for each in text) and not any(map(_is_control, text)):
                return codec
    return None


def _is_control(character: str) -> bool:
    return character < " " and character not in "\t\n\r\f\v"


def text_of(content: bytes, decode: Decoder, place: str) -> str:
    """Return the text of a whole file, without a byte order mark."""
    codec = utf16(content)
    text = content.decode(codec, "replace") if codec else decode(content, place)
    return text.removeprefix("\ufeff")


def as_utf8(stream: io.BufferedReader, name: str) -> io.BufferedReader:
    """Return the stream, or one with its text in UTF-8 if it is UTF-16."""
    codec = utf16(stream.peek(START))
    if codec is None:
        return stream
    log.info("%s: read as %s", name, codec.upper())
    return io.BufferedReader(_Recoded(stream, codec, name))


class _Recoded(io.RawIOBase):
    """The text of a UTF-16 stream as UTF-8."""

    def __init__(self, stream: io.BufferedReader, codec: str, name: str):
        self.name = name
        self._stream, self._left = stream, b""
        self._decoder = codecs.getincrementaldecoder(codec)("replace")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._left:
            chunk = self._stream.read1(START)
            self._left = self._decoder.decode(chunk, final=not chunk).encode()
            if not chunk:
                break
        taken, self._left = self._left[: len(buffer)], self._left[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)


class Utf8Lines:
    """The lines of a stream, with those that are not UTF-8 converted from Windows-1252."""

    def __init__(self, lines: Iterable[bytes | LongLine], name: str):
        self.name, self._lines, self._decode = name, lines, Decoder()

    def __iter__(self) -> Iterator[bytes | LongLine]:
        for number, line in enumerate(self._lines, start=1):
            yield (
                line
                if isinstance(line, LongLine) or line.isascii()
                else self._decode(line, f"{self.name}:{number}").encode()
            )
