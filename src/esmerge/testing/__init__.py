"""For who writes a merge: ``check_merge`` runs every invariant that a merge must satisfy, on small random experts.

As scikit-learn's ``check_estimator`` does for estimators: a package that adds a merge calls it in its own tests.
"""

from esmerge.testing.check import check_merge

__all__ = ["check_merge"]
