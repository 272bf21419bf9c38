"""One folder per kind of specialists; each registers itself under its config name."""
