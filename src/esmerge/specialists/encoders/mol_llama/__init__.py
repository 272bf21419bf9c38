"""Mol-LLaMA's molecule encoder, for inference: a conformer and a graph become 8 soft tokens (arXiv 2502.13449).

Uni-Mol reads the conformer, MoleculeSTM's GIN the graph, the blending module lets them look at one another, a Q-Former
asks both, and a linear layer leads to the language model. Modules carry the names that the release gives their tensors.
"""
