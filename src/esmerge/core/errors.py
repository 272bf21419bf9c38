"""Errors that a user can act on. Each message names the thing, its value, what was expected and what to do."""


class BenchError(Exception):
    """Base of every error this project raises on purpose."""


class ConfigError(BenchError):
    """A config value is unknown, of the wrong type, or does not fit the others."""


class AdapterError(BenchError):
    """A LoRA adapter cannot be read or cannot be merged with the others."""


class InputError(BenchError):
    """A molecule, protein, cell or table row is not valid input."""


class NumberError(BenchError, FloatingPointError):
    """A score, coefficient, statistic or objective is NaN or infinite: what was made of it is no result."""


class StoreError(BenchError):
    """A sweep or run folder is absent, or does not hold what the store writes."""


class TrackingError(BenchError):
    """Experiment tracking cannot work as configured."""


class NotApplicable(BenchError):
    """A reference has no answer to a benchmark; the table shows an empty cell."""


def shown(value: object, most: int = 80) -> str:
    """A value as a message quotes it: on one line, short, and printable anywhere."""
    try:
        text = ascii(value) if any("\ud800" <= letter <= "\udfff" for letter in repr(value)) else repr(value)
    except (ValueError, RecursionError):  # a number of more digits than Python prints, or too deep
        return f"a {type(value).__name__} too long to show"
    return text if len(text) <= most else f"{text[:most]}…"
