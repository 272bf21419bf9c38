"""The front doors: ``python -m src.sweep``, ``merge``, ``train``, ``report``, ``tasks``. The package is ``esmerge``."""
