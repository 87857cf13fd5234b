// Short vectors for every instruction set, written once with compiler vector extensions.
//
// WIDTH floats make a Vec: 16 with AVX-512, 8 with AVX2, 4 with SSE2 and on arm64. The compiler turns
// `a += b * c` into one fused multiply-add where the machine has it, and each shuffle below into one
// instruction.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

// What this file is compiled for; OF_ISA(f) is f_avx2, say.
#if !defined(HF_CHTS_ISA)
#define HF_CHTS_ISA baseline
#endif
#define JOINED(name, isa) name##_##isa
#define JOIN(name, isa) JOINED(name, isa)
#define OF_ISA(name) JOIN(name, HF_CHTS_ISA)
#define QUOTE(name) #name
#define QUOTED(name) QUOTE(name)

#define INLINE static inline __attribute__((always_inline))

#if defined(__AVX512F__)
constexpr int WIDTH = 16;
#elif defined(__AVX2__)
constexpr int WIDTH = 8;
#else
constexpr int WIDTH = 4;
#endif

typedef float Vec __attribute__((vector_size(4 * WIDTH)));
typedef uint32_t Bits __attribute__((vector_size(4 * WIDTH)));
typedef int32_t Lanes __attribute__((vector_size(4 * WIDTH)));
typedef uint16_t Halves __attribute__((vector_size(2 * WIDTH)));
typedef float Vec4 __attribute__((vector_size(16)));

struct bfloat16 {
    uint16_t bits;
};

// x - 0 is x to the last bit, so this is a bare broadcast; x + 0 would be an addition.
INLINE Vec splat(float x) { return x - Vec{}; }

// Loads and stores take any address; the compiler knows no better than the address itself.
template <class V, class T>
INLINE V load_as(const T* p) {
    V v;
    memcpy(&v, p, sizeof v);
    return v;
}
INLINE Vec load(const float* p) { return load_as<Vec>(p); }
INLINE void store(float* p, Vec v) { memcpy(p, &v, sizeof v); }

INLINE Vec load(const bfloat16* p) {
    return (Vec)(__builtin_convertvector(load_as<Halves>(p), Bits) << 16);
}
// To the nearest bfloat16, ties to even, as torch rounds; NaN stays NaN.
INLINE void store(bfloat16* p, Vec v) {
    Bits bits = (Bits)v;
    Bits rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    Bits is_nan = (Bits)(v != v);
    Halves h = __builtin_convertvector((is_nan & 0x7fc0) | (~is_nan & rounded), Halves);
    memcpy(p, &h, sizeof h);
}

// One number at a time, for the ragged edges.
INLINE float read(const float* p) { return *p; }
INLINE float read(const bfloat16* p) {
    uint32_t bits = (uint32_t)p->bits << 16;
    return load_as<float>(&bits);
}
INLINE void write(float* p, float x) { *p = x; }
INLINE void write(bfloat16* p, float x) {
    bfloat16 rounded[WIDTH];
    store(rounded, splat(x));
    *p = rounded[0];
}

// Shuffles are named by a struct whose `at(i)` says which lane of (a, b) lands in lane i.
template <class Pattern, int... I>
INLINE Vec shuffle_lanes(Vec a, Vec b, std::integer_sequence<int, I...>) {
#if defined(__clang__)
    return __builtin_shufflevector(a, b, Pattern::at(I)...);
#else
    return __builtin_shuffle(a, b, Lanes{Pattern::at(I)...});
#endif
}
template <class Pattern>
INLINE Vec shuffle(Vec a, Vec b) {
    return shuffle_lanes<Pattern>(a, b, std::make_integer_sequence<int, WIDTH>{});
}

// Within each quad of four lanes: (a0 b0 a1 b1) or, HIGH, (a2 b2 a3 b3).
template <bool HIGH>
struct Interleave {
    static constexpr int at(int i) {
        return i / 4 * 4 + (HIGH ? 2 : 0) + i % 4 / 2 + (i % 2 ? WIDTH : 0);
    }
};
// Within each quad: (a0 a1 b0 b1) or, HIGH, (a2 a3 b2 b3).
template <bool HIGH>
struct Pairs {
    static constexpr int at(int i) {
        return i / 4 * 4 + (HIGH ? 2 : 0) + i % 2 + (i % 4 >= 2 ? WIDTH : 0);
    }
};
// Every second quad of a, then of b; ODD starts with the second one.
template <bool ODD>
struct Quads {
    static constexpr int at(int i) {
        int quad = i / 4, half = WIDTH / 8;
        if (half == 0) return i;
        return (quad % half * 2 + (ODD ? 1 : 0)) * 4 + i % 4 + (quad >= half ? WIDTH : 0);
    }
};
// The vector turned by `BY` lanes.
template <int BY>
struct Rotate {
    static constexpr int at(int i) { return (i + BY) % WIDTH; }
};

// Four vectors become the four sums of their lanes.
INLINE Vec4 sum_lanes(Vec a, Vec b, Vec c, Vec d) {
    Vec ab = shuffle<Interleave<false>>(a, b) + shuffle<Interleave<true>>(a, b);
    Vec cd = shuffle<Interleave<false>>(c, d) + shuffle<Interleave<true>>(c, d);
    Vec abcd = shuffle<Pairs<false>>(ab, cd) + shuffle<Pairs<true>>(ab, cd);
    if (WIDTH >= 16) abcd += shuffle<Rotate<8 % WIDTH>>(abcd, abcd);
    if (WIDTH >= 8) abcd += shuffle<Rotate<4 % WIDTH>>(abcd, abcd);
    return load_as<Vec4>(&abcd);
}

INLINE float sum_of_lanes(Vec v) {
    Vec4 sums = sum_lanes(v, Vec{}, Vec{}, Vec{});
    return sums[0];
}

// base[at[0]], base[at[1]], ...: the one thing that compilers have no vector notation for.
#if defined(__AVX2__)
INLINE Lanes places(const int32_t* at) { return load_as<Lanes>(at); }
INLINE Lanes places(const int16_t* at) {
    typedef int16_t Shorts __attribute__((vector_size(2 * WIDTH)));
    return __builtin_convertvector(load_as<Shorts>(at), Lanes);
}
#endif
template <class Place>
INLINE Vec gather(const float* base, const Place* at) {
#if defined(__AVX512F__)
    return (Vec)_mm512_i32gather_ps((__m512i)places(at), base, 4);
#elif defined(__AVX2__)
    return (Vec)_mm256_i32gather_ps(base, (__m256i)places(at), 4);
#else
    return Vec{base[at[0]], base[at[1]], base[at[2]], base[at[3]]};
#endif
}

// Transposes the 4 x 4 blocks of four vectors: lane q of vector j goes to lane j of vector q.
INLINE void transpose_quads(Vec* v) {
    Vec a = shuffle<Interleave<false>>(v[0], v[1]), b = shuffle<Interleave<true>>(v[0], v[1]);
    Vec c = shuffle<Interleave<false>>(v[2], v[3]), d = shuffle<Interleave<true>>(v[2], v[3]);
    v[0] = shuffle<Pairs<false>>(a, c);
    v[1] = shuffle<Pairs<true>>(a, c);
    v[2] = shuffle<Pairs<false>>(b, d);
    v[3] = shuffle<Pairs<true>>(b, d);
}

// Transposes WIDTH vectors as a WIDTH x WIDTH matrix: blocks of 4 x 4 first, then whole quads, whose
// place is settled one binary digit at a time.
INLINE void transpose(Vec* v) {
    for (int j = 0; j < WIDTH; j += 4) transpose_quads(v + j);
    for (int round = WIDTH; round > 4; round /= 2) {
        Vec t[WIDTH];
        for (int block = 0; block < WIDTH / 8; block++) {
            for (int q = 0; q < 4; q++) {
                Vec a = v[block * 8 + q], b = v[block * 8 + 4 + q];
                t[block * 4 + q] = shuffle<Quads<false>>(a, b);
                t[WIDTH / 2 + block * 4 + q] = shuffle<Quads<true>>(a, b);
            }
        }
        for (int j = 0; j < WIDTH; j++) v[j] = t[j];
    }
}
