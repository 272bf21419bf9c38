"""What sweeps survive, and what readers of foreign files refuse: ``python -m benchmarks.reliability``."""
