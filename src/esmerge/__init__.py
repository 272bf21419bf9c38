"""Merging biological multimodal language models: specialists, merges, benchmarks, reports."""

__version__ = "0.1.0"
