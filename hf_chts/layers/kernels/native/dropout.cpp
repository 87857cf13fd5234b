// Dropout: y = x * 65536 / keep where a random number below 65536 is below `keep`, else 0.
//
// Random numbers are a hash of (seed, position), 16 bits each: nothing is remembered between calls,
// any thread can start anywhere, and the backward pass is the forward pass with the same seed. The
// hash is the finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
// generators", OOPSLA 2014); one 64-bit number serves four positions.
#include "api.h"
#include "simd.h"

namespace {

constexpr int BLOCK = 1024;  // positions whose random numbers are made at once

typedef uint64_t Words __attribute__((vector_size(4 * WIDTH)));
constexpr int WORDS = WIDTH / 2;  // in a vector

// The random numbers of positions [4 * word, 4 * word + BLOCK).
void draw(uint64_t seed, uint64_t word, uint16_t* numbers) {
    Words state;
    for (int i = 0; i < WORDS; i++) state[i] = seed + (word + i + 1) * 0x9e3779b97f4a7c15;
    for (int i = 0; i < BLOCK / 4; i += WORDS) {
        Words z = state;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        z ^= z >> 31;
        memcpy(numbers + 4 * i, &z, sizeof z);
        state += WORDS * 0x9e3779b97f4a7c15;
    }
}

template <class E>
void drop(const Dropout& job) {
    const E* x = static_cast<const E*>(job.x);
    E* y = static_cast<E*>(job.y);
    const float scale = 65536.0f / job.keep;
#pragma omp parallel for num_threads(job.threads)
    for (int64_t begin = 0; begin < job.n; begin += BLOCK) {
        uint16_t numbers[BLOCK];
        draw(job.seed, begin / 4, numbers);
        int n = job.n - begin < BLOCK ? static_cast<int>(job.n - begin) : BLOCK, i = 0;
        for (; i + WIDTH <= n; i += WIDTH) {
            Bits number = __builtin_convertvector(load_as<Halves>(numbers + i), Bits);
            Bits kept = (Bits)(number < job.keep);
            store(y + begin + i, (Vec)((Bits)(load(x + begin + i) * scale) & kept));
        }
        for (; i < n; i++) {
            write(y + begin + i, numbers[i] < job.keep ? read(x + begin + i) * scale : 0.0f);
        }
    }
}

}  // namespace

void OF_ISA(dropout)(const Dropout& job) {
    job.is_bfloat16 ? drop<bfloat16>(job) : drop<float>(job);
}
