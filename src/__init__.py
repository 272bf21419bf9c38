"""Merging biological multimodal language models: an experiment-tracked benchmark."""
