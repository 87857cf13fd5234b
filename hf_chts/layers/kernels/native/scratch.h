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

    // Room for n floats, aligned to a page; null where memory is out. What it holds is left over
    // from an earlier call.
    float* get(Slot slot, size_t n) {
        Buffer& buffer = buffers_[slot];
        if (buffer.size < n || !buffer.data) buffer.grow(n ? n : 1);
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
            size = data ? bytes / 4 : 0;
#if defined(__linux__)
            if (data && page == large) madvise(data, bytes, MADV_HUGEPAGE);
#endif
        }
    };
    Buffer buffers_[N_SLOTS];
};

thread_local Scratch scratch;

}  // namespace
