// Numbers of 2 or 4 bytes are moved as they are, whatever their type.
#include "matrix.h"

#include <cstring>

namespace {

// Calls visit(row, columns of its links, their number, first link) for every row.
template <class Column, class Visit>
void for_rows(const Layer& layer, int threads, Visit visit) {
    const Column* columns = static_cast<const Column*>(layer.columns);
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < layer.out; row++) {
        int64_t first = layer.row_starts[row];
        visit(row, columns + first, layer.row_starts[row + 1] - first, first);
    }
}

template <class Number, class Column>
void spread_as(const Layer& layer, const void* values, void* matrix, int threads) {
    const Number* from = static_cast<const Number*>(values);
    for_rows<Column>(layer, threads, [&](int64_t row, const Column* columns, int64_t n,
                                         int64_t first) {
        Number* to = static_cast<Number*>(matrix) + row * layer.in;
        memset(to, 0, layer.in * sizeof(Number));
        for (int64_t i = 0; i < n; i++) to[columns[i]] = from[first + i];
    });
}

template <class Number, class Column>
void collect_as(const Layer& layer, const void* matrix, void* values, int threads) {
    Number* to = static_cast<Number*>(values);
    for_rows<Column>(layer, threads, [&](int64_t row, const Column* columns, int64_t n,
                                         int64_t first) {
        const Number* from = static_cast<const Number*>(matrix) + row * layer.in;
        for (int64_t i = 0; i < n; i++) to[first + i] = from[columns[i]];
    });
}

// Calls run(number, column) with zeros of the types that numbers and columns have.
template <class Run>
void with_types(const Layer& layer, int bytes, Run run) {
    if (bytes == 2) {
        layer.wide_columns ? run(uint16_t(), int32_t()) : run(uint16_t(), int16_t());
    } else {
        layer.wide_columns ? run(uint32_t(), int32_t()) : run(uint32_t(), int16_t());
    }
}

}  // namespace

void spread(const Layer& layer, const void* values, void* matrix, int bytes, int threads) {
    with_types(layer, bytes, [&](auto number, auto column) {
        spread_as<decltype(number), decltype(column)>(layer, values, matrix, threads);
    });
}

void collect(const Layer& layer, const void* matrix, void* values, int bytes, int threads) {
    with_types(layer, bytes, [&](auto number, auto column) {
        collect_as<decltype(number), decltype(column)>(layer, matrix, values, threads);
    });
}
