// The links of one tile: all multiplying is done here. See kernels.cpp.
#pragma once

#include <algorithm>

#include "api.h"
#include "simd.h"

namespace {

constexpr int MAX_GROUPS = 4;
constexpr int LINE_BLOCK = std::min(MAX_BLOCK, 32 * 1024 / (MAX_GROUPS * WIDTH * 4));

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
                    const float* owns, float* targets, float* gradients, Fetching fetch) {
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

}  // namespace
