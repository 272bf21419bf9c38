"""What merges measure on data."""
