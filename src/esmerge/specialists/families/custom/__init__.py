"""Adapters of the user's own on any decoder-only language model that PEFT adapts."""
