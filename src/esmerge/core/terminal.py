"""Output that every terminal can show: what its encoding lacks is written in the letters it has."""

from __future__ import annotations

import codecs
import io
import sys
import unicodedata
import warnings

NEAREST = "nearest"  # name of the error handler
IN_ASCII = {
    "±": "+-", "–": "-", "—": "-", "−": "-", "…": "...", "→": "->", "←": "<-", "×": "x", "·": "*", "•": "*",
    "‘": "'", "’": "'", "“": '"', "”": '"', "†": "+", "‡": "++", "▲": "^", "▼": "v", "✓": "yes", "≤": "<=", "≥": ">=",
    "α": "alpha", "β": "beta", "λ": "lambda", "τ": "tau", "Δ": "Delta", "ß": "ss",
}  # fmt: skip

_WITH_SOURCE = warnings.formatwarning


def show_everywhere() -> None:
    """Let standard output and error write what their encoding lacks as its nearest letters, in place of an error."""
    codecs.register_error(NEAREST, _nearest)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what else may stand there, a test's or a notebook's, encodes nothing
            stream.reconfigure(errors=NEAREST)


def warn_in_plain_lines() -> None:
    """Let a warning to users be one line of text, without the file and the line of code that it came from."""
    warnings.formatwarning = _warning


def _warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    if issubclass(category, UserWarning):
        return f"warning: {message}\n"
    return _WITH_SOURCE(message, category, filename, lineno, line)  # of libraries, to those who mend them


def _nearest(error: UnicodeError) -> tuple[str, int]:
    """What stands for the letters that could not be written, and where to go on."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(map(_in_ascii, letters)), error.end


def _in_ascii(letter: str) -> str:
    plain = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    return IN_ASCII.get(letter) or plain or letter.encode("ascii", "backslashreplace").decode()
