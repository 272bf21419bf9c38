"""What floors share: the modalities of a benchmark, features, classifiers, and the predictions table."""
