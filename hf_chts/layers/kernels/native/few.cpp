// y = x W^T + b for up to FEW_TOKENS tokens: each link is read once, in row-major order.
#include <algorithm>

#include "api.h"
#include "scratch.h"
#include "sharing.h"
#include "simd.h"
#include "tiny.h"

namespace {

// Asks for the links that come some rows after those from k on: when a model decodes, its weights
// have left the caches, and all depends on how early they are asked for.
template <class Column>
INLINE void fetch_ahead(const float* values, const Column* columns, int32_t k, int32_t stop) {
    constexpr int AHEAD = 512;
    for (; k < stop; k += 16) {
        __builtin_prefetch(values + k + AHEAD);
        __builtin_prefetch(columns + k + AHEAD);
    }
}

// One token: y[r] = sum of values * x[columns], WIDTH links at a time.
template <class Column, class E>
void rows_of_one(const Forward& job, const Column* columns, const float* x, int64_t begin,
                 int64_t end) {
    const float* values = job.values;
    for (int64_t r = begin; r < end; r++) {
        int32_t k = job.layer.row_starts[r], stop = job.layer.row_starts[r + 1];
        Vec sums = Vec{};
        fetch_ahead(values, columns, k, stop);
        for (; k + WIDTH <= stop; k += WIDTH) sums += load(values + k) * gather(x, columns + k);
        float sum = sum_of_lanes(sums), rest = job.bias ? job.bias[r] : 0;
        for (; k + 1 < stop; k += 2) {
            sum += values[k] * x[columns[k]];
            rest += values[k + 1] * x[columns[k + 1]];
        }
        if (k < stop) sum += values[k] * x[columns[k]];
        write(static_cast<E*>(job.y) + r, sum + rest);
    }
}

template <int N>
struct VectorOf {
    typedef float type __attribute__((vector_size(4 * N)));
};

// Up to TOKENS tokens, one lane each; x is transposed, TOKENS floats a feature.
template <int TOKENS, class Column, class E>
void rows_of_few(const Forward& job, const Column* columns, const float* x, int64_t begin,
                 int64_t end) {
    using Few = typename VectorOf<TOKENS>::type;
    const float* values = job.values;
    for (int64_t r = begin; r < end; r++) {
        Few even = Few{}, odd = Few{};
        int32_t k = job.layer.row_starts[r], stop = job.layer.row_starts[r + 1];
        fetch_ahead(values, columns, k, stop);
        for (; k + 2 <= stop; k += 2) {
            even += values[k] * load_as<Few>(x + (int64_t)columns[k] * TOKENS);
            odd += values[k + 1] * load_as<Few>(x + (int64_t)columns[k + 1] * TOKENS);
        }
        if (k < stop) even += values[k] * load_as<Few>(x + (int64_t)columns[k] * TOKENS);
        even += odd + (job.bias ? job.bias[r] : 0);
        float sums[TOKENS];
        memcpy(sums, &even, sizeof sums);
        E* y = static_cast<E*>(job.y) + r;
        for (int64_t t = 0; t < job.tokens; t++) write(y + t * job.layer.out, sums[t]);
    }
}

template <class Column, class E>
bool forward_few_as(const Forward& job) {
    int lanes = job.tokens == 1 ? 1 : job.tokens <= 4 ? 4 : job.tokens <= 8 ? 8 : 16;
    float* x = scratch.get(Scratch::INPUTS, job.layer.in * lanes);
    if (!x) return false;
    const E* from = static_cast<const E*>(job.x);
    for (int64_t f = 0; f < job.layer.in; f++) {
        for (int64_t t = 0; t < lanes; t++) {
            x[f * lanes + t] = t < job.tokens ? read(from + t * job.x_stride + f) : 0;
        }
    }
    const Column* columns = static_cast<const Column*>(job.layer.columns);
#pragma omp parallel num_threads(job.threads)
    {
        TinyIsZero mode;
        // Threads share the links, not the rows: rows differ.
        Share links = my_share(job.layer.n_links);
        const int32_t *first = job.layer.row_starts, *last = first + job.layer.out;
        bool is_last = omp_get_thread_num() + 1 == omp_get_num_threads();
        int64_t begin = links.begin ? std::lower_bound(first, last, links.begin) - first : 0;
        int64_t end = is_last ? job.layer.out : std::lower_bound(first, last, links.end) - first;
        if (lanes == 1) rows_of_one<Column, E>(job, columns, x, begin, end);
        if (lanes == 4) rows_of_few<4, Column, E>(job, columns, x, begin, end);
        if (lanes == 8) rows_of_few<8, Column, E>(job, columns, x, begin, end);
        if (lanes == 16) rows_of_few<16, Column, E>(job, columns, x, begin, end);
    }
    return true;
}

template <class E>
bool forward_few(const Forward& job) {
    return job.layer.wide_columns ? forward_few_as<int32_t, E>(job)
                                  : forward_few_as<int16_t, E>(job);
}

}  // namespace

bool OF_ISA(forward_few)(const Forward& job) {
    return job.is_bfloat16 ? forward_few<bfloat16>(job) : forward_few<float>(job);
}
