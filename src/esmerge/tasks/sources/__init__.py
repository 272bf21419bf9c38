"""One file per kind of benchmark; each registers itself under the name that configs give as ``source``."""
