"""Releases of specialists taken apart: a PEFT folder, and the other parts as safetensors."""
