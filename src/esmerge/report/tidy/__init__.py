"""Tidy tables for the figures, one function per figure, from what runs stored."""
