"""The verbs of ``python -m src.tasks``."""
