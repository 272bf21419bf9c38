"""Molecules, sequences, tables and splits: what tasks and lessons are made of."""
