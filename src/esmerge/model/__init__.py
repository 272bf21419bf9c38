"""The language model: backbone, adapters on it, prompts, scores, generation, training."""
