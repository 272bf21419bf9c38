"""One rule per file that chooses solved examples."""
