// Runs the kernels on random layers and compares with plain loops. Built with sanitizers by
// test_native_sanitizers.py. Prints nothing when all is well.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "api.h"
#include "index.h"
#include "matrix.h"

namespace {

std::mt19937 randomness(1);

float number() { return std::uniform_real_distribution<float>(-1, 1)(randomness); }

std::vector<float> numbers(size_t n) {
    std::vector<float> all(n);
    for (float& x : all) x = number();
    return all;
}

bool close(const std::vector<float>& a, const std::vector<double>& b, const char* what) {
    for (size_t i = 0; i < a.size(); i++) {
        if (std::abs(a[i] - b[i]) > 1e-3) return printf("%s %zu: %g, not %g\n", what, i, a[i], b[i]), false;
    }
    return true;
}

// A layer with every buffer of its exact size, so that a sanitizer sees the first byte beyond.
template <class Column>
bool check(const Kernels& kernels, int64_t out, int64_t in, int64_t tokens, double density, int threads) {
    std::vector<int32_t> starts{0};
    std::vector<Column> columns;
    for (int64_t r = 0; r < out; r++) {
        for (int64_t c = 0; c < in; c++) {
            if (std::abs(number()) < density) columns.push_back(static_cast<Column>(c));
        }
        starts.push_back(static_cast<int32_t>(columns.size()));
    }
    int64_t n_links = static_cast<int64_t>(columns.size());
    Layer layer = {out, in, n_links, starts.data(), columns.data(), sizeof(Column) == 4};
    std::vector<int64_t> index(layout_of(out, in, n_links, kernels.block).bytes / 8 + 1);
    if (!build_index(layer, kernels.block, index.data())) return puts("no index"), false;

    int64_t stride = in + 3;
    std::vector<float> x = numbers(tokens * stride), values = numbers(n_links), bias = numbers(out);
    std::vector<float> y(tokens * out), dy = numbers(tokens * out), dx(tokens * in);
    std::vector<float> dvalues(n_links), dbias(out);
    std::vector<double> y2(y.size()), dx2(dx.size()), dvalues2(n_links), dbias2(out);
    for (int64_t t = 0; t < tokens; t++) {
        for (int64_t r = 0; r < out; r++) {
            y2[t * out + r] += bias[r];
            dbias2[r] += dy[t * out + r];
            for (int32_t k = starts[r]; k < starts[r + 1]; k++) {
                y2[t * out + r] += values[k] * x[t * stride + columns[k]];
                dx2[t * in + columns[k]] += values[k] * dy[t * out + r];
                dvalues2[k] += x[t * stride + columns[k]] * dy[t * out + r];
            }
        }
    }
    Forward forward = {layer, row_view(layer, kernels.block, index.data()), tokens, x.data(), stride,
                       values.data(), bias.data(), y.data(), false, threads};
    kernels.forward(forward);
    bool good = close(y, y2, "y");
    if (tokens <= FEW_TOKENS) {
        y.assign(y.size(), NAN);
        kernels.forward_few(forward);
        good &= close(y, y2, "y of few");
    }
    View view = column_view(layer, kernels.block, index.data());
    for (int wanted = 1; wanted < 8; wanted++) {
        dx.assign(dx.size(), NAN), dvalues.assign(n_links, NAN), dbias.assign(out, NAN);
        float *to_x = dx.data(), *to_values = dvalues.data(), *to_bias = dbias.data();
        kernels.backward({layer, view, tokens, x.data(), dy.data(), stride, out, values.data(),
                          wanted & 1 ? to_x : nullptr, wanted & 2 ? to_values : nullptr,
                          wanted & 4 ? to_bias : nullptr, false, threads});
        if (wanted & 1) good &= close(dx, dx2, "dx");
        if (wanted & 2) good &= close(dvalues, dvalues2, "dvalues");
        if (wanted & 4) good &= close(dbias, dbias2, "dbias");
    }
    if (!good) printf("%s: %ld x %ld, %ld tokens, %g\n", kernels.name, (long)out, (long)in, (long)tokens, density);
    return good;
}

bool check_refusal(const Kernels& kernels) {
    int32_t starts[] = {0, 2};
    int16_t unsorted[] = {3, 1}, outside[] = {1, 4};
    std::vector<int64_t> index(1000);
    return !build_index({1, 4, 2, starts, unsorted, false}, kernels.block, index.data()) &&
           !build_index({1, 4, 2, starts, outside, false}, kernels.block, index.data());
}

// Against random numbers made one by one.
bool check_dropout(const Kernels& kernels, int64_t n) {
    const uint64_t seed = 12345;
    const uint32_t keep = 40000;
    std::vector<float> x = numbers(n), y(n, NAN);
    std::vector<double> y2(n);
    for (int64_t i = 0; i < n; i++) {
        uint64_t z = seed + (i / 4 + 1) * 0x9e3779b97f4a7c15;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        z ^= z >> 31;
        y2[i] = (z >> (i % 4 * 16) & 0xffff) < keep ? x[i] * (65536.0 / keep) : 0;
    }
    kernels.dropout({n, x.data(), y.data(), seed, keep, false, 2});
    return close(y, y2, "dropout");
}

// Rows of `heads` heads that see some tokens, which lie in rows picked at random.
bool check_attention(const Kernels& kernels, int64_t rows, int64_t tokens, int64_t heads, int64_t width) {
    int64_t lines = 3, size = heads * width, total = rows * size;
    std::vector<float> query = numbers(total), y(total, NAN);
    std::vector<float> keys = numbers(tokens * lines * size), values = numbers(tokens * lines * size);
    std::vector<int32_t> places;
    std::vector<uint8_t> mask;
    for (int64_t i = 0; i < tokens * rows; i++) {
        places.push_back(static_cast<int32_t>(randomness() % lines));
        mask.push_back(randomness() % 4 != 0);
    }
    std::vector<double> y2(total);
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t h = 0; h < heads; h++) {
            std::vector<double> shares(tokens);
            double sum = 0;
            for (int64_t t = 0; t < tokens; t++) {
                const float* key = &keys[(t * lines + places[t * rows + r]) * size + h * width];
                double score = 0;
                for (int64_t i = 0; i < width; i++) score += query[r * size + h * width + i] * key[i];
                shares[t] = mask[r * tokens + t] ? std::exp(score / 2) : 0;
                sum += shares[t];
            }
            for (int64_t t = 0; t < tokens && sum > 0; t++) {
                const float* value = &values[(t * lines + places[t * rows + r]) * size + h * width];
                for (int64_t i = 0; i < width; i++) y2[r * size + h * width + i] += shares[t] / sum * value[i];
            }
        }
    }
    kernels.attention({rows, tokens, heads, width, query.data(), keys.data(), values.data(), lines * size,
                       size, places.data(), rows, mask.data(), tokens, 0.5f, y.data(), 2});
    return close(y, y2, "attention");
}

// Two rows of three with links (0, 2), (1, 0), (1, 1).
template <class Number, class Column>
bool check_matrix(bool wide) {
    const int32_t starts[] = {0, 1, 3};
    const Column columns[] = {2, 0, 1};
    const Number values[] = {5, 6, 7}, matrix[] = {0, 0, 5, 6, 7, 0};
    std::vector<Number> spread_out(6, 9), collected(3, 9);
    Layer layer = {2, 3, 3, starts, columns, wide};
    spread(layer, values, spread_out.data(), sizeof(Number), 2);
    collect(layer, matrix, collected.data(), sizeof(Number), 2);
    return std::equal(spread_out.begin(), spread_out.end(), matrix) &&
           std::equal(collected.begin(), collected.end(), values);
}

}  // namespace

int main() {
    const int64_t shapes[][2] = {{1, 1}, {16, 16}, {33, 300}, {270, 37}};
    const int64_t tokens[] = {0, 1, 3, 8, 16, 40, 100, 150};
    bool good = check_matrix<uint16_t, int16_t>(false) && check_matrix<uint32_t, int32_t>(true);
    for (const Kernels* kernels : {CHECKED}) {
        good &= check_refusal(*kernels);
        for (int64_t n : {0, 1, 15, 17, 1024, 1025, 3000}) good &= check_dropout(*kernels, n);
        for (int64_t width : {1, 7, 16, 33}) {
            for (int64_t tokens : {0, 1, 9}) good &= check_attention(*kernels, 5, tokens, 3, width);
        }
        for (auto& shape : shapes) {
            for (int64_t n : tokens) {
                for (double density : {0., .1, 1.}) {
                    if (density == 1 && n > 40) continue;
                    good &= check<int16_t>(*kernels, shape[0], shape[1], n, density, 1);
                    good &= check<int32_t>(*kernels, shape[0], shape[1], n, density, 2);
                }
            }
        }
    }
    return !good;
}
