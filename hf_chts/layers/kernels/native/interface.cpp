// The plain C interface that Python calls through ctypes, and the choice of instruction set.
#include <algorithm>
#include <cstring>

#include "api.h"
#include "index.h"
#include "matrix.h"
#include "tiny.h"

namespace {

const Kernels* chosen = nullptr;

bool runs_here(const Kernels& kernels) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (&kernels == &kernels_avx512) {
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    }
    if (&kernels == &kernels_avx2) {
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    }
#endif
    return &kernels == &kernels_baseline;
}

// A thread is worth waking for about this many numbers to move.
int useful_movers(int64_t numbers, int threads) {
    return static_cast<int>(std::min<int64_t>(threads, numbers / 65536 + 1));
}

// A thread is worth waking for about this many multiply-adds.
int useful_threads(int64_t links, int64_t tokens, int threads) {
    int64_t useful = links * tokens / 30000 + 1;
    return static_cast<int>(std::max<int64_t>(1, std::min<int64_t>(threads, useful)));
}

}  // namespace

#pragma GCC visibility push(default)  // the rest of the binary is hidden
extern "C" {

// Picks the best kernels for this machine, or those called `name`. Null if there are none.
const char* hf_chts_choose(const char* name) {
#if defined(__x86_64__)
    const Kernels* all[] = {&kernels_avx512, &kernels_avx2, &kernels_baseline};
#else
    const Kernels* all[] = {&kernels_baseline};
#endif
    for (const Kernels* kernels : all) {
        if (!runs_here(*kernels) || (*name && strcmp(name, kernels->name) != 0)) continue;
        chosen = kernels;
        return kernels->name;
    }
    return nullptr;
}

// Whether all threads that torch and the kernels share take numbers below 1.2e-38 for 0.
void hf_chts_set_tiny_is_zero(bool on, int threads) {
#pragma omp parallel num_threads(threads)
    set_float_mode(on ? float_mode() | TINY_IS_ZERO : float_mode() & ~TINY_IS_ZERO);
}

int64_t hf_chts_max_lines() { return MAX_LINES; }

int64_t hf_chts_index_bytes(int64_t out, int64_t in, int64_t n_links) {
    return layout_of(out, in, n_links, chosen->block).bytes;
}

bool hf_chts_build_index(int64_t out, int64_t in, int64_t n_links, const int32_t* row_starts,
                         const void* columns, bool wide_columns, void* index) {
    return build_index({out, in, n_links, row_starts, columns, wide_columns}, chosen->block, index);
}

// The three that need memory of their own are false where there is none.
bool hf_chts_run_forward(int64_t out, int64_t in, int64_t n_links, const int32_t* row_starts,
                         const void* columns, bool wide_columns, const void* index, int64_t tokens,
                         const void* x, int64_t x_stride, const float* values, const float* bias,
                         void* y, bool is_bfloat16, int threads) {
    Layer layer = {out, in, n_links, row_starts, columns, wide_columns};
    Forward job = {layer,  row_view(layer, chosen->block, index), tokens, x, x_stride, values,
                   bias,   y, is_bfloat16, useful_threads(n_links, tokens, threads)};
    return tokens <= FEW_TOKENS ? chosen->forward_few(job) : chosen->forward(job);
}

bool hf_chts_run_backward(int64_t out, int64_t in, int64_t n_links, const void* index,
                          int64_t tokens, const void* x, int64_t x_stride, const void* dy,
                          int64_t dy_stride, const float* values, void* dx, float* dvalues,
                          float* dbias, bool is_bfloat16, int threads) {
    Layer layer = {out, in, n_links, nullptr, nullptr, false};
    Backward job = {layer, column_view(layer, chosen->block, index), tokens, x, dy, x_stride,
                    dy_stride, values, dx, dvalues, dbias, is_bfloat16,
                    useful_threads(n_links, tokens, threads)};
    return chosen->backward(job);
}

void hf_chts_spread(int64_t out, int64_t in, int64_t n_links, const int32_t* row_starts,
                    const void* columns, bool wide_columns, const void* values, void* matrix,
                    int bytes, int threads) {
    spread({out, in, n_links, row_starts, columns, wide_columns}, values, matrix, bytes,
           useful_movers(out * in, threads));
}

void hf_chts_collect(int64_t out, int64_t in, int64_t n_links, const int32_t* row_starts,
                     const void* columns, bool wide_columns, const void* matrix, void* values,
                     int bytes, int threads) {
    collect({out, in, n_links, row_starts, columns, wide_columns}, matrix, values, bytes,
            useful_movers(n_links, threads));
}

void hf_chts_dropout(int64_t n, const void* x, void* y, uint64_t seed, uint32_t keep,
                     bool is_bfloat16, int threads) {
    chosen->dropout({n, x, y, seed, keep, is_bfloat16, useful_movers(n, threads)});
}

bool hf_chts_run_attention(int64_t rows, int64_t tokens, int64_t heads, int64_t width,
                           const float* query, const float* keys, const float* values,
                           int64_t token_stride, int64_t row_stride, const int32_t* places,
                           int64_t places_stride, const uint8_t* mask, int64_t mask_stride,
                           float scale, float* y, int threads) {
    return chosen->attention({rows, tokens, heads, width, query, keys, values, token_stride,
                              row_stride, places, places_stride, mask, mask_stride, scale, y,
                              useful_threads(rows * heads * width, tokens, threads)});
}
}
#pragma GCC visibility pop
