"""What every table shows beside the merges: floors, the bare backbone, single experts, fine-tuned references."""
