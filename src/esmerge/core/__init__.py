"""The ground floor: errors, registries, checks, prompts, randomness, timing. Everything may import it."""
