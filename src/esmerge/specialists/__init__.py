"""Sets of specialists: a backbone, its adapters and its encoders."""
