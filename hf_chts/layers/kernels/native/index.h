// Where the views of a layer lie in memory, and building them; see index.cpp.
#pragma once

#include "api.h"

// Both views lie in one piece of memory, each array where it would start if no segment were empty.
struct Layout {
    int64_t row_blocks, row_segments, column_blocks, column_segments, order, row_offsets,
        column_offsets, bytes;
};
Layout layout_of(int64_t out, int64_t in, int64_t n_links, int block);

View row_view(const Layer& layer, int block, const void* index);
View column_view(const Layer& layer, int block, const void* index);

// False, with nothing written, unless columns lie in [0, in) and strictly increase in each row.
bool build_index(const Layer& layer, int block, void* index);
