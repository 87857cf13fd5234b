// Builds the two views of a layer's links (kernels.cpp says what a view is), once per topology
// update. Links come in row-major order: row_starts and, for each link, its column.
#include "index.h"

#include <algorithm>
#include <vector>

namespace {

// The segments of one block, shortest first; equally long ones stay in the order of their lines.
// Fills `first_link` with the place of each line's first link in the view.
template <class Start>
void sort_segments(const std::vector<int32_t>& n_links, bool keep_empty, Start start, Block at,
                   Segment* segments, int32_t* first_link, Block* next) {
    int32_t of_length[MAX_BLOCK + 1] = {};
    for (int32_t n : n_links) of_length[n]++;
    int32_t segment[MAX_BLOCK + 1], link[MAX_BLOCK + 1];
    for (int n = keep_empty ? 0 : 1; n <= MAX_BLOCK; n++) {
        segment[n] = at.segment;
        link[n] = at.link;
        at.segment += of_length[n];
        at.link += of_length[n] * n;
    }
    for (size_t line = 0; line < n_links.size(); line++) {
        int32_t n = n_links[line];
        if (n == 0 && !keep_empty) continue;
        segments[segment[n]++] = {start(line), static_cast<uint32_t>(line), static_cast<uint32_t>(n)};
        first_link[line] = link[n];
        link[n] += n;
    }
    *next = at;
}

template <class Column>
void build_row_view(const int32_t* starts, const Column* columns, int64_t out, int64_t in, int block,
              Block* blocks, Segment* segments, uint8_t* offsets) {
    std::vector<int32_t> at(starts, starts + out), n_links(out), first_link(out);
    blocks[0] = {0, 0};
    for (int64_t b = 0, first = 0; first < in; b++, first += block) {
        for (int64_t r = 0; r < out; r++) {
            int32_t end = at[r];
            while (end < starts[r + 1] && columns[end] < first + block) end++;
            n_links[r] = end - at[r];
        }
        sort_segments(n_links, b == 0, [&](size_t r) { return at[r]; }, blocks[b], segments,
                      first_link.data(), &blocks[b + 1]);
        for (int64_t r = 0; r < out; r++) {
            for (int32_t i = 0; i < n_links[r]; i++) {
                offsets[first_link[r] + i] = static_cast<uint8_t>(columns[at[r] + i] - first);
            }
            at[r] += n_links[r];
        }
    }
}

template <class Column>
void build_column_view(const int32_t* starts, const Column* columns, int64_t out, int64_t in, int block,
                 Block* blocks, Segment* segments, uint8_t* offsets, int32_t* order) {
    std::vector<int32_t> n_links(in), at(in);
    blocks[0] = {0, 0};
    for (int64_t b = 0, first = 0; first < out; b++, first += block) {
        int64_t end = std::min(first + block, out);
        std::fill(n_links.begin(), n_links.end(), 0);
        for (int32_t k = starts[first]; k < starts[end]; k++) n_links[columns[k]]++;
        sort_segments(n_links, b == 0, [](size_t) { return 0; }, blocks[b], segments, at.data(),
                      &blocks[b + 1]);
        for (int64_t r = first; r < end; r++) {
            for (int32_t k = starts[r]; k < starts[r + 1]; k++) {
                int32_t place = at[columns[k]]++;
                offsets[place] = static_cast<uint8_t>(r - first);
                order[place] = k;
            }
        }
    }
}

template <class Column>
bool is_sound(const int32_t* starts, const Column* columns, int64_t out, int64_t in,
              int64_t n_links) {
    if (starts[0] != 0 || starts[out] != n_links) return false;
    for (int64_t r = 0; r < out; r++) {
        if (starts[r + 1] < starts[r]) return false;
    }
    for (int64_t r = 0; r < out; r++) {
        int64_t before = -1;
        for (int32_t k = starts[r]; k < starts[r + 1]; k++) {
            if (columns[k] <= before || columns[k] >= in) return false;
            before = columns[k];
        }
    }
    return true;
}

template <class Column>
bool build(const Layer& layer, int block, char* index) {
    const Column* columns = static_cast<const Column*>(layer.columns);
    if (!is_sound(layer.row_starts, columns, layer.out, layer.in, layer.n_links)) return false;
    Layout at = layout_of(layer.out, layer.in, layer.n_links, block);
    build_row_view(layer.row_starts, columns, layer.out, layer.in, block,
                   reinterpret_cast<Block*>(index + at.row_blocks),
                   reinterpret_cast<Segment*>(index + at.row_segments),
                   reinterpret_cast<uint8_t*>(index + at.row_offsets));
    build_column_view(layer.row_starts, columns, layer.out, layer.in, block,
                      reinterpret_cast<Block*>(index + at.column_blocks),
                      reinterpret_cast<Segment*>(index + at.column_segments),
                      reinterpret_cast<uint8_t*>(index + at.column_offsets),
                      reinterpret_cast<int32_t*>(index + at.order));
    return true;
}

int64_t count_blocks(int64_t lines, int block) { return (lines + block - 1) / block; }

View view_at(const void* index, int64_t blocks, int64_t segments, int64_t offsets, int64_t order,
             int64_t n_blocks) {
    const char* base = static_cast<const char*>(index);
    return {reinterpret_cast<const Block*>(base + blocks),
            reinterpret_cast<const Segment*>(base + segments),
            reinterpret_cast<const uint8_t*>(base + offsets),
            reinterpret_cast<const int32_t*>(base + order), n_blocks};
}

}  // namespace

Layout layout_of(int64_t out, int64_t in, int64_t n_links, int block) {
    int64_t row_blocks = count_blocks(in, block), column_blocks = count_blocks(out, block);
    Layout at;
    at.row_blocks = 0;
    at.row_segments = at.row_blocks + (row_blocks + 1) * sizeof(Block);
    at.column_blocks = at.row_segments + row_blocks * out * sizeof(Segment);
    at.column_segments = at.column_blocks + (column_blocks + 1) * sizeof(Block);
    at.order = at.column_segments + column_blocks * in * sizeof(Segment);
    at.row_offsets = at.order + n_links * 4;
    at.column_offsets = at.row_offsets + n_links;
    at.bytes = at.column_offsets + n_links;
    return at;
}

View row_view(const Layer& layer, int block, const void* index) {
    Layout at = layout_of(layer.out, layer.in, layer.n_links, block);
    return view_at(index, at.row_blocks, at.row_segments, at.row_offsets, at.order,
                   count_blocks(layer.in, block));
}

View column_view(const Layer& layer, int block, const void* index) {
    Layout at = layout_of(layer.out, layer.in, layer.n_links, block);
    return view_at(index, at.column_blocks, at.column_segments, at.column_offsets, at.order,
                   count_blocks(layer.out, block));
}

bool build_index(const Layer& layer, int block, void* index) {
    char* to = static_cast<char*>(index);
    return layer.wide_columns ? build<int32_t>(layer, block, to) : build<int16_t>(layer, block, to);
}
