"""Tiny random checkpoints and tables with the releases' file layouts, key names and config fields."""
