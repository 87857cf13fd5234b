// Buffers that outlive a call: one set a thread, grown when needed, freed when the thread ends.
#pragma once

#include <cstdlib>
#include <cstddef>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace {

class Scratch {
   public:
    enum Slot { INPUTS, OUTPUTS, VALUES, GRADIENTS, SUMS, N_SLOTS };

    // Room for n floats, aligned to a page. What it holds is left over from an earlier call.
    float* get(Slot slot, size_t n) {
        Buffer& buffer = buffers_[slot];
        if (buffer.size < n) buffer.grow(n);
        return buffer.data;
    }

   private:
    struct Buffer {
        float* data = nullptr;
        size_t size = 0;

        ~Buffer() { free(data); }

        // Large buffers ask for large pages: the kernels jump about in them.
        void grow(size_t n) {
            size_t large = size_t{2} << 20, page = n * 4 >= large ? large : 4096;
            size_t bytes = (n * 4 + page - 1) / page * page;
            free(data);
            data = static_cast<float*>(aligned_alloc(page, bytes));
            if (!data) abort();  // as the C++ runtime would: no exception crosses the C interface
            size = bytes / 4;
#if defined(__linux__)
            if (page == large) madvise(data, bytes, MADV_HUGEPAGE);
#endif
        }
    };
    Buffer buffers_[N_SLOTS];
};

thread_local Scratch scratch;

}  // namespace
