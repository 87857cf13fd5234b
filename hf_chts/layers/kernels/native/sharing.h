// How threads share things out.
#pragma once

#include <cstdint>
#include <omp.h>

namespace {

// The part [begin, end) of n things that is one thread's.
struct Share {
    int64_t begin, end;
};
Share my_share(int64_t n) {
    int64_t me = omp_get_thread_num(), all = omp_get_num_threads();
    return {n * me / all, n * (me + 1) / all};
}

}  // namespace
