"""The science: pure functions on one layer seen as a bipartite network. Imports torch only."""
