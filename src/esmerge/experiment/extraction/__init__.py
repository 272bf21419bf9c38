"""LoRA factors of a full fine-tune: truncated SVD of the difference between its weights and the backbone's."""
