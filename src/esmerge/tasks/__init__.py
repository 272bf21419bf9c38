"""Benchmarks: where their questions come from, how they are split and how they are worded."""
