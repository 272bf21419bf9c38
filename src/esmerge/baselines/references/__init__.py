"""One reference per file: what stands beside the merges and needs the language model."""
