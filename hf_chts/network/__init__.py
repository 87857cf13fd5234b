"""What of a model becomes sparse: its linear layers, and the neurons between them."""
