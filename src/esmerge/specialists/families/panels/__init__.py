"""A language model of the user's own as backbone, and specialists taught on panels whose other side stands in words."""
