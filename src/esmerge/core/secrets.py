"""Keys, tokens and passwords are kept out of logs, records and what is sent: libraries quote them in their errors.

Where secrets come from: environment variables whose names say so, and addresses that carry a password.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

HIDDEN = "***"
NAMES = re.compile(r"(^|_)(API_?KEY|ACCESS_KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$", re.IGNORECASE)
SHORTEST = 8  # letters: a shorter value is a word that may stand anywhere
IN_ADDRESS = re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)")  # user:password
TOKENS = re.compile(r"\b(hf_[A-Za-z0-9]{20,}|wandb_v1_[A-Za-z0-9_]{20,})")  # as Hugging Face and W&B give them out


def redacted(text: str) -> str:
    """The text with every secret replaced by ``***``."""
    for value in _values():
        text = text.replace(value, HIDDEN)
    return TOKENS.sub(HIDDEN, IN_ADDRESS.sub(HIDDEN, text))


def redacted_values(config: Mapping[str, object]) -> dict[str, object]:
    """A config with every secret in its texts replaced."""
    return {key: _redacted(value) for key, value in config.items()}


def _redacted(value: object) -> object:
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, Mapping):
        return redacted_values(value)
    return [_redacted(item) for item in value] if isinstance(value, list | tuple) else value


def _values() -> list[str]:
    """Values of environment variables that are secrets, the longest first: one may begin with another."""
    values = {value for name, value in os.environ.items() if NAMES.search(name) and len(value) >= SHORTEST}
    return sorted(values, key=len, reverse=True)
