"""Merging biological multimodal language models: specialists, merges, benchmarks, reports."""
