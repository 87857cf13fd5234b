// Between rows of tokens, as models have them, and lines: one feature of many tokens.
#pragma once

#include <algorithm>

#include "simd.h"

namespace {

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

}  // namespace
