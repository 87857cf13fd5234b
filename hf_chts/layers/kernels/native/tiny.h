// Numbers below 1.2e-38 ("denormal") take a processor a hundred times as long as others, in training
// too: where attention has settled, the gradients of its scores are as small. Here they count as 0.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace {

#if defined(__x86_64__)
constexpr uint64_t TINY_IS_ZERO = 0x8040;  // results (FTZ) and operands (DAZ)
inline uint64_t float_mode() { return _mm_getcsr(); }
inline void set_float_mode(uint64_t mode) { _mm_setcsr(static_cast<uint32_t>(mode)); }
#elif defined(__aarch64__)
constexpr uint64_t TINY_IS_ZERO = 1 << 24;  // both (FZ)
inline uint64_t float_mode() {
    uint64_t mode;
    asm volatile("mrs %0, fpcr" : "=r"(mode));
    return mode;
}
inline void set_float_mode(uint64_t mode) { asm volatile("msr fpcr, %0" : : "r"(mode)); }
#else
constexpr uint64_t TINY_IS_ZERO = 0;
inline uint64_t float_mode() { return 0; }
inline void set_float_mode(uint64_t) {}
#endif

// As long as it lives, for its thread.
class TinyIsZero {
   public:
    TinyIsZero() : before_(float_mode()) { set_float_mode(before_ | TINY_IS_ZERO); }
    ~TinyIsZero() { set_float_mode(before_); }

   private:
    uint64_t before_;
};

}  // namespace
