"""From embedding-space signals to merging coefficients: the paper's formulas stand in ``formulas``, on one page."""
