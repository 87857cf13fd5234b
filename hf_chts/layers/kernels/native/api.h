// What the parts of the binary say to each other: the index of a layer, the jobs, the kernels.
#pragma once

#include <cstddef>
#include <cstdint>

// The links that one row (or column) has in one block. See kernels.cpp.
struct Segment {
    int32_t start;          // where its first link stands in row-major order
    uint32_t line : 23;     // which row (in the column view: which column)
    uint32_t n_links : 9;   // at most MAX_BLOCK
};
static_assert(sizeof(Segment) == 8, "a segment is 8 bytes");
constexpr int MAX_BLOCK = 256;
constexpr int64_t MAX_LINES = 1 << 23;

// First segment and first link of a block; one more entry closes the last block.
struct Block {
    int32_t segment;
    int32_t link;
};

// All links, sorted by block, then by segment; see kernels.cpp.
struct View {
    const Block* blocks;
    const Segment* segments;
    const uint8_t* offsets;  // of each link: its place in the block
    const int32_t* order;    // of each link: its place in row-major order (column view only)
    int64_t n_blocks;
};

// The links of a layer in row-major order.
struct Layer {
    int64_t out, in, n_links;
    const int32_t* row_starts;
    const void* columns;
    bool wide_columns;  // int32, not int16
};

// y = x W^T + bias. Rows of x lie `x_stride` numbers apart; y is contiguous.
struct Forward {
    Layer layer;
    View rows;
    int64_t tokens;
    const void* x;
    int64_t x_stride;
    const float *values, *bias;  // bias may be null
    void* y;
    bool is_bfloat16;  // x and y
    int threads;
};

bool forward_few_baseline(const Forward&);  // see few.cpp
bool forward_few_avx2(const Forward&);
bool forward_few_avx512(const Forward&);

// dx = dy W, dvalues = dy^T x at the links, dbias = sum of dy. Each of the three may be null.
struct Backward {
    Layer layer;  // its sizes only
    View columns;
    int64_t tokens;
    const void *x, *dy;
    int64_t x_stride, dy_stride;
    const float* values;
    void* dx;
    float *dvalues, *dbias;
    bool is_bfloat16;  // x, dy and dx
    int threads;
};

// y = x / (keep / 65536) at the share of places that is kept, else 0; see dropout.cpp.
struct Dropout {
    int64_t n;
    const void* x;
    void* y;
    uint64_t seed;
    uint32_t keep;  // of 65536
    bool is_bfloat16;
    int threads;
};
void dropout_baseline(const Dropout&);
void dropout_avx2(const Dropout&);
void dropout_avx512(const Dropout&);

// y = softmax(scale * query keys^T) values for one new token a row; see attention.cpp. Token t of
// row r lies in row places[t * places_stride + r] of keys and values, whose heads and features are
// adjacent, as they are in query and y. A mask of null lets all tokens be seen.
struct Attention {
    int64_t rows, tokens, heads, width;
    const float *query, *keys, *values;
    int64_t token_stride, row_stride;  // of keys and of values
    const int32_t* places;
    int64_t places_stride;
    const uint8_t* mask;
    int64_t mask_stride;  // between rows
    float scale;
    float* y;
    int threads;
};
bool attention_baseline(const Attention&);
bool attention_avx2(const Attention&);
bool attention_avx512(const Attention&);

// One instruction set's kernels. False where memory is out: results are then unfinished.
struct Kernels {
    const char* name;
    int block;  // rows or columns in a block of an index built for it
    bool (*forward)(const Forward&);
    bool (*forward_few)(const Forward&);
    bool (*backward)(const Backward&);
    void (*dropout)(const Dropout&);
    bool (*attention)(const Attention&);
};
constexpr int64_t FEW_TOKENS = 16;  // up to here forward_few is the faster one

extern const Kernels kernels_baseline, kernels_avx2, kernels_avx512;
