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
// wait for rows of x and y that lie beyond the second-level cache, while running through the links
// leaves memory idle. So each segment asks for a bit of what the next tile packs and this one
// unpacks (`Fetch`). Wide layers have no room for it in that cache.
//
// FEW TOKENS. When a model decodes, there is nothing to fill a tile with, and all time goes into
// reading the links. few.cpp reads each link once, in row-major order, and does without views.
//
// FILES. packing.h packs and unpacks, links.h runs through the links of a tile, index.cpp builds the
// views; here it comes together.
#include <algorithm>
#include <omp.h>

#include "api.h"
#include "links.h"
#include "packing.h"
#include "scratch.h"
#include "sharing.h"
#include "simd.h"
#include "tiny.h"

namespace {

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

// ---- The kernels ----

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

template <class E>
bool forward(const Forward& job) {
    float* values = scratch.get(Scratch::VALUES, job.layer.n_links);
    bool has_memory = values;
    if (!has_memory) return false;
#pragma omp parallel num_threads(job.threads) reduction(&& : has_memory)
    {
        TinyIsZero mode;
        gather_segments(job.rows, job.values, values);
#pragma omp barrier
        for_each_tile(job.tokens, [&](int64_t token, auto groups) {
            constexpr int GROUPS = decltype(groups)::value, LINE = GROUPS * WIDTH;
            float* inputs = scratch.get(Scratch::INPUTS, job.layer.in * LINE);
            float* outputs = scratch.get(Scratch::OUTPUTS, job.layer.out * LINE);
            has_memory = has_memory && inputs && outputs;
            if (!has_memory) return;
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
    return has_memory;
}

// One tile of the backward. `gradients` (in the order of the view) and `sums` are this thread's.
// False where memory is out.
template <int GROUPS, class E>
bool backward_tile(const Backward& job, const float* values, int64_t token, float* gradients,
                   float* sums) {
    constexpr int LINE = GROUPS * WIDTH;
    float* outputs = scratch.get(Scratch::OUTPUTS, job.layer.out * LINE);
    float* inputs = scratch.get(Scratch::INPUTS, job.layer.in * LINE * 2);
    if (!outputs || !inputs) return false;
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
    return true;
}

template <class E>
bool backward(const Backward& job) {
    // Gradients are added four at a time, the last up to three beyond the end.
    int64_t n_links = job.layer.n_links, room = n_links + 3;
    float* values = scratch.get(Scratch::VALUES, n_links);
    float* gradients = scratch.get(Scratch::GRADIENTS, job.dvalues ? room * job.threads : 0);
    float* sums = scratch.get(Scratch::SUMS, job.dbias ? job.layer.out * job.threads : 0);
    bool has_memory = values && gradients && sums;
    if (!has_memory) return false;
#pragma omp parallel num_threads(job.threads) reduction(&& : has_memory)
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
            has_memory = has_memory && backward_tile<decltype(groups)::value, E>(
                                           job, values, token, my_gradients, my_sums);
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
    return has_memory;
}

}  // namespace

const Kernels OF_ISA(kernels) = {
    QUOTED(HF_CHTS_ISA),
    LINE_BLOCK,
    [](const Forward& job) {
        return job.is_bfloat16 ? forward<bfloat16>(job) : forward<float>(job);
    },
    OF_ISA(forward_few),
    [](const Backward& job) {
        return job.is_bfloat16 ? backward<bfloat16>(job) : backward<float>(job);
    },
    OF_ISA(dropout),
    OF_ISA(attention),
};
