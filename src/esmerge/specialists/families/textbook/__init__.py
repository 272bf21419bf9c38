"""The embedded default: a tiny backbone that has read the textbook, and specialists that learn to perceive."""
