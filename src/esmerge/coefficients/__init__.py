"""From embedding-space signals to merging coefficients: the paper's formulas and nothing else."""
