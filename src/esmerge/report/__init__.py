"""Tables, figures and a verdict, rebuilt from what a sweep stored: ``python -m src.report``."""
