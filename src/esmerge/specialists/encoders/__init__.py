"""One file per encoder; each registers itself under its config name."""
