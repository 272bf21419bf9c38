"""One recipe for specialists that perceive: features, a frozen trunk, a linear projector to soft tokens, a LoRA."""
