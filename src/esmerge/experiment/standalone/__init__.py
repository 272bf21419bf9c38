"""A merge on its own: the user's adapters in, one adapter or model out, without benchmarks."""
