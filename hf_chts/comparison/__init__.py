"""Several methods, sparsities and seeds by one recipe, and what they have to show."""
