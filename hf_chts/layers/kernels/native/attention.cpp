// Attention of one new token a row, over keys and values that other rows may have made.
//
// Beam search goes on from its best hypotheses, so rows change places at every token. Here no key and
// no value ever moves: `places` says in which row of the memory token t of row r lies. Rows of one
// sentence come one after another and share most of their tokens, which then are in the cache.
//
// A token's keys of all heads lie side by side, and so do its values: one pass over the tokens makes
// all scores of a row, another one all of its outputs, and memory is read in long runs.
#include <cmath>

#include "api.h"
#include "scratch.h"
#include "simd.h"
#include "tiny.h"

namespace {

float dot(const float* a, const float* b, int n) {
    Vec sum = {};
    int i = 0;
    for (; i + WIDTH <= n; i += WIDTH) sum += load(a + i) * load(b + i);
    float total = sum_of_lanes(sum);
    for (; i < n; i++) total += a[i] * b[i];
    return total;
}

// y += share * x
void add_share(float* y, float share, const float* x, int n) {
    int i = 0;
    for (; i + WIDTH <= n; i += WIDTH) store(y + i, load(y + i) + splat(share) * load(x + i));
    for (; i < n; i++) y[i] += share * x[i];
}

// Numbers become shares of 1, by softmax; -infinity becomes 0, and so do all if all are that.
void soften(float* scores, int64_t n) {
    float best = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++) best = scores[i] > best ? scores[i] : best;
    for (int64_t i = 0; i < n; i++) {
        scores[i] = scores[i] == -INFINITY ? 0 : std::exp(scores[i] - best);
        sum += scores[i];
    }
    for (int64_t i = 0; i < n; i++) scores[i] /= sum > 0 ? sum : 1;
}

// Where token t of a row lies in the keys, and in the values.
int64_t place(const Attention& job, int64_t row, int64_t t) {
    return t * job.token_stride + job.places[t * job.places_stride + row] * job.row_stride;
}

bool is_seen(const Attention& job, int64_t row, int64_t t) {
    return !job.mask || job.mask[row * job.mask_stride + t];
}

void attend(const Attention& job, int64_t row, float* scores) {
    const int64_t tokens = job.tokens;
    const float* query = job.query + row * job.heads * job.width;
    float* y = job.y + row * job.heads * job.width;
    for (int64_t t = 0; t < tokens; t++) {
        bool seen = is_seen(job, row, t);
        const float* keys = job.keys + place(job, row, t);
        for (int64_t h = 0; h < job.heads; h++) {
            int64_t at = h * job.width;
            float score = seen ? job.scale * dot(query + at, keys + at, job.width) : -INFINITY;
            scores[h * tokens + t] = score;
        }
    }
    for (int64_t h = 0; h < job.heads; h++) soften(scores + h * tokens, tokens);
    memset(y, 0, job.heads * job.width * sizeof *y);
    for (int64_t t = 0; t < tokens; t++) {
        if (!is_seen(job, row, t)) continue;
        const float* values = job.values + place(job, row, t);
        for (int64_t h = 0; h < job.heads; h++) {
            int64_t at = h * job.width;
            add_share(y + at, scores[h * tokens + t], values + at, job.width);
        }
    }
}

}  // namespace

bool OF_ISA(attention)(const Attention& job) {
    bool has_memory = true;
#pragma omp parallel num_threads(job.threads) reduction(&& : has_memory)
    {
        TinyIsZero mode;
        float* scores = scratch.get(Scratch::SUMS, job.heads * job.tokens);
        has_memory = scores;
#pragma omp for schedule(static)
        for (int64_t row = 0; row < job.rows; row++) {
            if (scores) attend(job, row, scores);
        }
    }
    return has_memory;
}
