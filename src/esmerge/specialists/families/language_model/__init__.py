"""A language model of the user's own as backbone, and specialists taught on real tables of their modalities."""
