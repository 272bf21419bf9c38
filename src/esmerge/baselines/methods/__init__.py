"""One reference per file."""
