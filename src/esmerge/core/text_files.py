"""Text as other systems leave it: the one reader of every text file that a user may bring.

A byte order mark decides first (UTF-8, UTF-16, UTF-32). A file without one is UTF-8 or, if no letter beyond ASCII in it
reads as UTF-8, Windows-1252, which holds the letters of Latin-1; that is said in a warning. What is neither is refused
by name. Compressed files (gzip, bzip2, xz, a zip archive of one file) are recognised by their first bytes.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from esmerge.core.errors import InputError

MARKS = (  # the longer ones first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
OTHER = "cp1252"  # Windows-1252
NAMES = {OTHER: "Windows-1252", "utf-8-sig": "UTF-8", "utf-16": "UTF-16", "utf-32": "UTF-32"}


def read_text(path: Path) -> str:
    """A text file with every line end as ``\\n``; see ``decode_file``."""
    return io.IncrementalNewlineDecoder(None, translate=True).decode(decode_file(path), final=True)


def decode_file(path: Path) -> str:
    """A text file, compressed or not, with its line ends as they are.

    Raises:
        InputError: it is not there, cannot be read, is cut off, or is not text in an encoding of the stated order.
    """
    try:
        content = _decompressed(path.read_bytes(), path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    encoding = next((name for mark, name in MARKS if content.startswith(mark)), None)
    if encoding is None:
        return _unmarked(content, path)
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} begins with the mark of {NAMES[encoding]}, but is not {NAMES[encoding]} at byte {error.start}: is "
            "it cut off? Save it again as UTF-8"
        ) from error


def _unmarked(content: bytes, path: Path) -> str:
    """Text without a byte order mark: UTF-8 or, with a warning, Windows-1252."""
    if b"\0" in content:
        raise InputError(
            f"{path} holds bytes of zero (the first in line {_line(content, content.index(0))}): it is a binary file, "
            "or UTF-16 without a byte order mark; save it as UTF-8 text"
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line, byte = _line(content, error.start), f"byte 0x{content[error.start]:02X}"
        if error.end == len(content) and error.reason == "unexpected end of data" and not _single_bytes(content):
            raise InputError(f"{path} ends in the middle of a letter, in line {line}: it is cut off") from error
        if not _single_bytes(content):
            raise InputError(
                f"{path}, line {line}: {byte} is not UTF-8, though other letters are: save the file in one encoding, "
                "best as UTF-8"
            ) from error
    try:
        text = content.decode(OTHER)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}, line {_line(content, error.start)}: byte 0x{content[error.start]:02X} is neither UTF-8 nor "
            "Windows-1252: save the file as UTF-8"
        ) from error
    warnings.warn(
        f"{path} is not UTF-8 ({byte} in line {line}) and was read as Windows-1252: save it as UTF-8 if letters look "
        "wrong",
        stacklevel=4,
    )
    return text


def _single_bytes(content: bytes) -> bool:
    """Whether no letter beyond ASCII reads as UTF-8, so that the file was written with one byte per letter."""
    text = content.decode("utf-8", errors="surrogateescape")
    return all(letter.isascii() or "\udc80" <= letter <= "\udcff" for letter in set(text))


def _line(content: bytes, position: int) -> int:
    return content.count(b"\n", 0, position) + 1


def _decompressed(content: bytes, path: Path) -> bytes:
    for mark, name, function in COMPRESSED:
        if content.startswith(mark):
            try:
                return function(content)
            except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error, zipfile.BadZipFile) as error:
                raise InputError(f"{path} is {name} file that cannot be unpacked: {error}; fetch it again") from error
            except InputError as error:
                raise InputError(f"{path} {error}") from error
    return content


def _unzipped(content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        if len(names) != 1:
            raise InputError(
                f"is a zip archive of {len(names)} files, as Excel workbooks are: expected text; unpack it, or save "
                "the sheet as CSV"
            )
        return archive.read(names[0])


COMPRESSED: tuple[tuple[bytes, str, Callable[[bytes], bytes]], ...] = (
    (b"\x1f\x8b", "a gzip", gzip.decompress),
    (b"BZh", "a bzip2", bz2.decompress),
    (b"\xfd7zXZ\0", "an xz", lzma.decompress),
    (b"PK\x03\x04", "a zip", _unzipped),
)
