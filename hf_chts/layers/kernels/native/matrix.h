// A layer's links as a matrix with zeros between them, and back.
#pragma once

#include "api.h"

// Writes the whole out x in matrix: `values` at the links, else 0.
void spread(const Layer&, const void* values, void* matrix, int bytes, int threads);

// Reads the links' entries of an out x in matrix into `values`.
void collect(const Layer&, const void* matrix, void* values, int bytes, int threads);
