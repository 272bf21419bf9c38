"""Solved examples before a question."""
