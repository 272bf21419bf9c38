"""One merge per file: a pure function ``(MergeInput, settings) -> Merged``."""
