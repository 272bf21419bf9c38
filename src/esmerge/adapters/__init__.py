"""What is merged: LoRA adapters and dense updates, in memory and as PEFT folders."""
