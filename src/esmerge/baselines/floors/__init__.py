"""One floor per file: what can be had without any language model, from the training split alone.

A merge that does not beat the drug-only floor has learnt nothing about the interaction; one that does not beat the
random forest has learnt no more of it than fingerprints and counts hold.
"""
