"""Sparse layers, how their links are stored, and the kernels that compute with them."""
