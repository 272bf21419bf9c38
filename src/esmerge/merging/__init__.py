"""Merges: an interface, shared operations, and one merge per file."""
