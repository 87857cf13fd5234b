// The kernels of a sparse linear layer, y = x W^T + b, and its gradients. Compiled once for each
// instruction set; nothing here depends on which.
//
// THE IDEA. A link (row r, column c, value w) says y[t, r] += w * x[t, c] for every token t. One
// link touches one number of x and one of y, so vectors must run along the tokens: with x and y
// transposed, a link is "add w times a line of x to a line of y", where a line is one feature of
// many tokens. The same holds backwards: dx += w * dy is the same thing with rows and columns
// swapped, and the gradient of w is the inner product of a line of dy and a line of x.
//
// TILES. Tokens are cut into tiles of up to 4 vectors (GROUPS; 64 tokens with AVX-512). Threads
// share the tokens; a tile belongs to one thread and needs nobody else. For each tile, `pack`
// transposes x into a buffer of lines, the links are run through, `unpack` transposes y back.
//
// BLOCKS. A link costs one load of a line for one multiply-add, so lines have to come from the
// first-level cache. Therefore the lines of x are cut into blocks of 128 or 256, 16 to 32 KB, and
// all links of one block are done before those of the next:
//
//                    columns of W (lines of x)
//                   block 0   block 1   block 2
//             row 0 [ x  xx ] [  x    ] [ x   x ]     "x": a link. The links that a row has in a
//             row 1 [       ] [ x x x ] [x      ]     block are a *segment*; a segment's lines of y
//             row 2 [ x x   ] [xx     ] [       ]     stay in registers until it is done.
//
// SORTED SEGMENTS. Within a block, segments are sorted by their number of links. The processor
// then guesses the end of nearly every inner loop right, since it is where the last one ended; in
// natural order it would guess wrong almost every time, at the cost of several links. Empty
// segments are left out, except in block 0, whose segments also start the lines of y.
//
// VIEWS. The links in this order, block > segment > link, are a *view*. Of each link it holds the
// place in its block (one byte, whatever the width of the layer). `Forward` has the row view, whose
// segments are rows and whose blocks are columns; `Backward` has the column view, the same with
// rows and columns swapped. Values are brought into the order of the view at each call. In the row
// view a segment is contiguous in the layer's own (row-major) order; the column view needs a
// permutation.
//
// BACKWARD. One pass over the column view gives both gradients: a line of dy is loaded once and
// used twice, in dx += w * dy and in dw = sum(dy * x), whose lines of x are the segment's own and
// stay in registers. Each thread adds up its own dw; they are summed and put in row-major order at
// the end, in the order of the threads, so that results do not depend on who comes first.
//
// MEMORY. In layers of moderate width much of the time would go into packing and unpacking, which
// wait for rows of x and y that lie beyond the second-level cache, while
// running through the links leaves memory idle. So each segment asks for a bit of what the next
// tile packs and this one unpacks (`Fetch`). Wide layers have no room for it in that cache.
//
// FEW TOKENS. When a model decodes, there is nothing to fill a tile with, and all time goes into
// reading the links. `forward_few` reads each link once, in row-major order, and does without views.
#include <algorithm>
#include <omp.h>

#include "api.h"
#include "scratch.h"
#include "simd.h"
#include "tiny.h"

#if !defined(HF_CHTS_ISA)
#define HF_CHTS_ISA baseline
#endif
#define JOIN(a, b) a##b
#define KERNELS_OF(isa) JOIN(kernels_, isa)
#define DROPOUT_OF(isa) JOIN(dropout_, isa)
#define ATTENTION_OF(isa) JOIN(attention_, isa)
#define QUOTE(a) #a
#define NAME_OF(isa) QUOTE(isa)

namespace {

constexpr int MAX_GROUPS = 4;
constexpr int LINE_BLOCK = std::min(MAX_BLOCK, 32 * 1024 / (MAX_GROUPS * WIDTH * 4));

// The part [begin, end) of n things that is one thread's.
struct Share {
    int64_t begin, end;
};
Share my_share(int64_t n) {
    int64_t me = omp_get_thread_num(), all = omp_get_num_threads();
    return {n * me / all, n * (me + 1) / all};
}

// Calls tile(first token, GROUPS) for this thread's tokens, as few tiles as possible.
template <class Tile>
void for_each_tile(int64_t tokens, Tile tile) {
    Share groups = my_share((tokens + WIDTH - 1) / WIDTH);
    while (groups.begin < groups.end) {
        int64_t n = std::min<int64_t>(groups.end - groups.begin, MAX_GROUPS);
        int64_t token = groups.begin * WIDTH;
        if (n == 4) tile(token, std::integral_constant<int, 4>{});
        if (n == 3) tile(token, std::integral_constant<int, 3>{});
        if (n == 2) tile(token, std::integral_constant<int, 2>{});
        if (n == 1) tile(token, std::integral_constant<int, 1>{});
        groups.begin += n;
    }
}

// ---- Between rows of tokens and lines of features ----

// Transposes one vector of tokens; `lines` are `step` floats apart. Missing tokens become 0. Adds
// the sum over the tokens to `sums`, if given.
template <class E>
void pack_group(const E* x, int64_t stride, int64_t tokens, int64_t features, float* lines,
                int step, float* sums) {
    int64_t f = 0;
    for (; f + WIDTH <= features; f += WIDTH) {
        Vec v[WIDTH];
        for (int t = 0; t < WIDTH; t++) v[t] = t < tokens ? load(x + t * stride + f) : Vec{};
        if (sums) {
            Vec sum = load(sums + f);
            for (int t = 0; t < WIDTH; t++) sum += v[t];
            store(sums + f, sum);
        }
        transpose(v);
        for (int i = 0; i < WIDTH; i++) store(lines + (f + i) * step, v[i]);
    }
    for (; f < features; f++) {
        for (int t = 0; t < WIDTH; t++) {
            float number = t < tokens ? read(x + t * stride + f) : 0;
            lines[f * step + t] = number;
            if (sums) sums[f] += number;
        }
    }
}

template <int GROUPS, class E>
void pack(const E* x, int64_t stride, int64_t tokens, int64_t features, float* lines,
          float* sums = nullptr) {
    constexpr int LINE = GROUPS * WIDTH;
    for (int g = 0; g < GROUPS; g++, x += WIDTH * stride, tokens -= WIDTH) {
        if (tokens >= WIDTH) {
            pack_group(x, stride, WIDTH, features, lines + g * WIDTH, LINE, sums);
        } else {
            pack_group(x, stride, tokens, features, lines + g * WIDTH, LINE, sums);
        }
    }
}

template <class E>
void unpack_group(const float* lines, int step, int64_t tokens, int64_t features, E* y) {
    int64_t f = 0;
    for (; f + WIDTH <= features; f += WIDTH) {
        Vec v[WIDTH];
        for (int i = 0; i < WIDTH; i++) v[i] = load(lines + (f + i) * step);
        transpose(v);
        for (int t = 0; t < WIDTH; t++) {
            if (t < tokens) store(y + t * features + f, v[t]);
        }
    }
    for (; f < features; f++) {
        for (int64_t t = 0; t < tokens; t++) write(y + t * features + f, lines[f * step + t]);
    }
}

template <int GROUPS, class E>
void unpack(const float* lines, int64_t tokens, int64_t features, E* y) {
    constexpr int LINE = GROUPS * WIDTH;
    for (int g = 0; g < GROUPS; g++, y += WIDTH * features, tokens -= WIDTH) {
        int64_t n = std::min<int64_t>(std::max<int64_t>(tokens, 0), WIDTH);
        if (n == WIDTH) {
            unpack_group(lines + g * WIDTH, LINE, WIDTH, features, y);
        } else {
            unpack_group(lines + g * WIDTH, LINE, n, features, y);
        }
    }
}

// ---- Between row-major order and the order of a view ----

// Of the row view: each segment is copied whole. Threads share the blocks.
void gather_segments(const View& view, const float* values, float* sorted) {
    Share blocks = my_share(view.n_blocks);
    for (int64_t b = blocks.begin; b < blocks.end; b++) {
        float* to = sorted + view.blocks[b].link;
        for (int32_t s = view.blocks[b].segment; s < view.blocks[b + 1].segment; s++) {
            const float* from = values + view.segments[s].start;
            int n = view.segments[s].n_links;
            for (int i = 0; i < n; i++) to[i] = from[i];
            to += n;
        }
    }
}

// Of the column view.
void gather_links(const View& view, int64_t n_links, const float* values, float* sorted) {
    Share links = my_share(n_links);
    for (int64_t k = links.begin; k < links.end; k++) sorted[k] = values[view.order[k]];
}

// Sums the threads' gradients, which lie `room` apart, and puts them in row-major order.
void scatter_links(const View& view, int64_t n_links, const float* parts, int64_t room,
                   float* values) {
    Share links = my_share(n_links);
    int n_parts = omp_get_num_threads();
    for (int64_t k = links.begin; k < links.end; k++) {
        float sum = parts[k];
        for (int p = 1; p < n_parts; p++) sum += parts[p * room + k];
        values[view.order[k]] = sum;
    }
}

// ---- The links of one tile ----

// Memory to ask for early, one cache line of each range at a time.
struct Fetch {
    const char* at[3] = {};
    const char* end[3] = {};

    // Range i: rows of `n` tokens.
    template <class E>
    void add(int i, const E* rows, int64_t n, int64_t stride) {
        at[i] = reinterpret_cast<const char*>(rows);
        end[i] = reinterpret_cast<const char*>(rows + n * stride);
    }
    void next() {
        for (int i = 0; i < 3; i++) {
            if (at[i] >= end[i]) continue;
            __builtin_prefetch(at[i], 0, 2);  // into the second-level cache
            at[i] += 64;
        }
    }
};

struct FetchNothing {
    void next() {}
};

// Tokens of this tile and of the next one, of all that are left.
template <int LINE>
INLINE std::pair<int64_t, int64_t> tokens_of_tile(int64_t left) {
    int64_t now = std::min<int64_t>(left, LINE);
    return {now, std::min<int64_t>(left - now, LINE)};
}

// Whether a tile leaves room in the second-level cache for what is fetched meanwhile.
INLINE bool has_room(const Layer& layer, int line) {
    return (layer.in + layer.out) * line * 4 <= 512 * 1024;
}

template <int GROUPS>
struct Line {
    Vec v[GROUPS];
};
template <int GROUPS>
INLINE Line<GROUPS> load_line(const float* p) {
    Line<GROUPS> line;
    for (int g = 0; g < GROUPS; g++) line.v[g] = load(p + g * WIDTH);
    return line;
}
template <int GROUPS>
INLINE void store_line(float* p, const Line<GROUPS>& line) {
    for (int g = 0; g < GROUPS; g++) store(p + g * WIDTH, line.v[g]);
}
template <int GROUPS>
INLINE Line<GROUPS> filled_line(float x) {
    Line<GROUPS> line;
    for (int g = 0; g < GROUPS; g++) line.v[g] = splat(x);
    return line;
}

// The line that byte i of `places` points to, in a block of lines.
template <int GROUPS>
INLINE const float* nth_line(const float* block, uint32_t places, int i) {
    const float* line = block + size_t{places >> 8 * i & 0xff} * (GROUPS * WIDTH);
    // Settles the address in one register. Otherwise every multiply-add below would add up base
    // and offset anew, which Intel processors carry out as two operations: a fifth slower.
    asm("" : "+r"(line));
    return line;
}

INLINE void add_to(float* p, Vec4 v) {
    v += load_as<Vec4>(p);
    memcpy(p, &v, sizeof v);
}

// target += value * source
template <int GROUPS>
INLINE void multiply(Line<GROUPS>& target, float value, const float* source) {
    Vec w = splat(value);
    for (int g = 0; g < GROUPS; g++) target.v[g] += w * load(source + g * WIDTH);
}

// Returns the lane-wise part of sum(own * source), and on the way, if MULTIPLY, target += value *
// source.
template <int GROUPS, bool MULTIPLY>
INLINE Vec correlate(Line<GROUPS>& target, float value, const float* source,
                     const Line<GROUPS>& own) {
    Vec w = splat(value), sum;
    for (int g = 0; g < GROUPS; g++) {
        Vec s = load(source + g * WIDTH);
        if (MULTIPLY) target.v[g] += w * s;
        sum = g ? sum + s * own.v[g] : s * own.v[g];
    }
    return sum;
}

// targets[segment] = start + sum over its links of value * sources[link], for all segments.
template <int GROUPS, class Fetching>
void multiply_tile(const View& view, const float* values, const float* sources, float* targets,
                   const float* start, Fetching fetch) {
    constexpr int LINE = GROUPS * WIDTH;
    const uint8_t* at = view.offsets;
    const Segment* segments = view.segments;
    for (int64_t b = 0; b < view.n_blocks; b++, sources += LINE_BLOCK * LINE) {
        int32_t end = view.blocks[b + 1].segment;
        for (int32_t s = view.blocks[b].segment; s < end; s++) {
            const Segment segment = segments[s];
            fetch.next();
            float* target = targets + segment.line * (int64_t)LINE;
            Line<GROUPS> sum = b ? load_line<GROUPS>(target)
                                 : filled_line<GROUPS>(start ? start[segment.line] : 0);
            int n = segment.n_links;
            for (; n >= 4; n -= 4, at += 4, values += 4) {
                uint32_t four = load_as<uint32_t>(at);
                for (int i = 0; i < 4; i++) {
                    multiply(sum, values[i], nth_line<GROUPS>(sources, four, i));
                }
            }
            for (; n > 0; n--, at++, values++) {
                multiply(sum, *values, nth_line<GROUPS>(sources, *at, 0));
            }
            store_line(target, sum);
        }
    }
}

// Likewise, and gradients[link] += sum(owns[segment] * sources[link]). Without MULTIPLY, the
// latter only.
template <int GROUPS, bool MULTIPLY, class Fetching>
void correlate_tile(const View& view, const float* values, const float* sources,
                    const float* owns, float* targets, float* gradients,
                    Fetching fetch) {
    constexpr int LINE = GROUPS * WIDTH;
    const uint8_t* at = view.offsets;
    const Segment* segments = view.segments;
    for (int64_t b = 0; b < view.n_blocks; b++, sources += LINE_BLOCK * LINE) {
        int32_t end = view.blocks[b + 1].segment;
        for (int32_t s = view.blocks[b].segment; s < end; s++) {
            const Segment segment = segments[s];
            fetch.next();
            const Line<GROUPS> own = load_line<GROUPS>(owns + segment.line * (int64_t)LINE);
            float* target = targets + segment.line * (int64_t)LINE;
            Line<GROUPS> sum = MULTIPLY && b ? load_line<GROUPS>(target) : filled_line<GROUPS>(0);
            auto link = [&](uint32_t places, int i) __attribute__((always_inline)) {
                const float* source = nth_line<GROUPS>(sources, places, i);
                return correlate<GROUPS, MULTIPLY>(sum, values[i], source, own);
            };
            int n = segment.n_links;
            for (; n >= 4; n -= 4, at += 4, values += 4, gradients += 4) {
                uint32_t four = load_as<uint32_t>(at);
                Vec a = link(four, 0), b = link(four, 1), c = link(four, 2), d = link(four, 3);
                add_to(gradients, sum_lanes(a, b, c, d));
            }
            if (n > 0) {
                Vec a = link(at[0], 0), b = Vec{}, c = Vec{};
                if (n > 1) b = link(at[1] << 8, 1);
                if (n > 2) c = link(at[2] << 16, 2);
                add_to(gradients, sum_lanes(a, b, c, Vec{}));
                at += n, values += n, gradients += n;
            }
            if (MULTIPLY) store_line(target, sum);
        }
    }
}

// ---- The three kernels ----

template <class E>
void forward(const Forward& job) {
    float* values = scratch.get(Scratch::VALUES, job.layer.n_links);
#pragma omp parallel num_threads(job.threads)
    {
        TinyIsZero mode;
        gather_segments(job.rows, job.values, values);
#pragma omp barrier
        for_each_tile(job.tokens, [&](int64_t token, auto groups) {
            constexpr int GROUPS = decltype(groups)::value, LINE = GROUPS * WIDTH;
            float* inputs = scratch.get(Scratch::INPUTS, job.layer.in * LINE);
            float* outputs = scratch.get(Scratch::OUTPUTS, job.layer.out * LINE);
            const E* x = static_cast<const E*>(job.x) + token * job.x_stride;
            E* y = static_cast<E*>(job.y) + token * job.layer.out;
            pack<GROUPS>(x, job.x_stride, job.tokens - token, job.layer.in, inputs);
            auto multiply = [&](auto fetch) {
                multiply_tile<GROUPS>(job.rows, values, inputs, outputs, job.bias, fetch);
            };
            if (has_room(job.layer, LINE)) {
                auto [now, later] = tokens_of_tile<LINE>(job.tokens - token);
                Fetch fetch;
                fetch.add(0, x + now * job.x_stride, later, job.x_stride);
                fetch.add(1, y, now, job.layer.out);
                multiply(fetch);
            } else {
                multiply(FetchNothing());
            }
            unpack<GROUPS>(outputs, job.tokens - token, job.layer.out, y);
        });
    }
}

// One tile of the backward. `gradients` (in the order of the view) and `sums` are this thread's.
template <int GROUPS, class E>
void backward_tile(const Backward& job, const float* values, int64_t token, float* gradients,
                   float* sums) {
    constexpr int LINE = GROUPS * WIDTH;
    float* outputs = scratch.get(Scratch::OUTPUTS, job.layer.out * LINE);
    float* inputs = scratch.get(Scratch::INPUTS, job.layer.in * LINE * 2);
    float* dinputs = inputs + job.layer.in * LINE;
    int64_t tokens = job.tokens - token;
    const E* dy = static_cast<const E*>(job.dy) + token * job.dy_stride;
    const E* x = job.dvalues ? static_cast<const E*>(job.x) + token * job.x_stride : nullptr;
    E* dx = job.dx ? static_cast<E*>(job.dx) + token * job.layer.in : nullptr;
    pack<GROUPS>(dy, job.dy_stride, tokens, job.layer.out, outputs, sums);
    if (x) pack<GROUPS>(x, job.x_stride, tokens, job.layer.in, inputs);
    auto correlate = [&](auto fetch) {
        const View& view = job.columns;
        if (x && dx) {
            correlate_tile<GROUPS, true>(view, values, outputs, inputs, dinputs, gradients, fetch);
        } else if (x) {
            correlate_tile<GROUPS, false>(view, values, outputs, inputs, dinputs, gradients, fetch);
        } else if (dx) {
            multiply_tile<GROUPS>(view, values, outputs, dinputs, nullptr, fetch);
        }
    };
    if (has_room(job.layer, LINE)) {
        auto [now, later] = tokens_of_tile<LINE>(tokens);
        Fetch fetch;
        fetch.add(0, dy + now * job.dy_stride, later, job.dy_stride);
        if (x) fetch.add(1, x + now * job.x_stride, later, job.x_stride);
        if (dx) fetch.add(2, dx, now, job.layer.in);
        correlate(fetch);
    } else {
        correlate(FetchNothing());
    }
    if (dx) unpack<GROUPS>(dinputs, tokens, job.layer.in, dx);
}

template <class E>
void backward(const Backward& job) {
    // Gradients are added four at a time, the last up to three beyond the end.
    int64_t n_links = job.layer.n_links, room = n_links + 3;
    float* values = scratch.get(Scratch::VALUES, n_links);
    float* gradients = scratch.get(Scratch::GRADIENTS, job.dvalues ? room * job.threads : 0);
    float* sums = scratch.get(Scratch::SUMS, job.dbias ? job.layer.out * job.threads : 0);
#pragma omp parallel num_threads(job.threads)
    {
        TinyIsZero mode;
        int me = omp_get_thread_num();
        float* my_gradients = gradients + me * room;
        float* my_sums = job.dbias ? sums + me * job.layer.out : nullptr;
        gather_links(job.columns, n_links, job.values, values);
        if (job.dvalues) std::fill_n(my_gradients, room, 0.f);
        if (job.dbias) std::fill_n(my_sums, job.layer.out, 0.f);
#pragma omp barrier
        for_each_tile(job.tokens, [&](int64_t token, auto groups) {
            backward_tile<decltype(groups)::value, E>(job, values, token, my_gradients, my_sums);
        });
#pragma omp barrier
        if (job.dvalues) scatter_links(job.columns, n_links, gradients, room, job.dvalues);
        if (job.dbias) {
            Share rows = my_share(job.layer.out);
            for (int64_t r = rows.begin; r < rows.end; r++) {
                job.dbias[r] = 0;
                for (int p = 0; p < omp_get_num_threads(); p++) job.dbias[r] += sums[p * job.layer.out + r];
            }
        }
    }
}

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
void forward_few_as(const Forward& job) {
    int lanes = job.tokens == 1 ? 1 : job.tokens <= 4 ? 4 : job.tokens <= 8 ? 8 : 16;
    float* x = scratch.get(Scratch::INPUTS, job.layer.in * lanes);
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
}

template <class E>
void forward_few(const Forward& job) {
    job.layer.wide_columns ? forward_few_as<int32_t, E>(job) : forward_few_as<int16_t, E>(job);
}

}  // namespace

const Kernels KERNELS_OF(HF_CHTS_ISA) = {
    NAME_OF(HF_CHTS_ISA),
    LINE_BLOCK,
    [](const Forward& job) { job.is_bfloat16 ? forward<bfloat16>(job) : forward<float>(job); },
    [](const Forward& job) { job.is_bfloat16 ? forward_few<bfloat16>(job) : forward_few<float>(job); },
    [](const Backward& job) { job.is_bfloat16 ? backward<bfloat16>(job) : backward<float>(job); },
    DROPOUT_OF(HF_CHTS_ISA),
    ATTENTION_OF(HF_CHTS_ISA),
};
