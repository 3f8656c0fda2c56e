// The two kernels that all the arithmetic of convolutions and linear layers goes through.
//
// `correlate`: outputs of a tile of positions and channels, each a sum over taps. A tap is an offset into the input and
// a weight for each channel; forward passes and gradients of the input differ only in their taps.
// `outer`: gradients of a tile of weights, each a sum over positions and images of input times gradient.
// A tile's sums stay in registers: positions x channels of them.
#pragma once
#include <array>
#include <cstddef>
#include <vector>

#include "simd.hpp"

namespace kn {

constexpr bool kMany = kRegisters == 32;
constexpr int kPositions = kMany ? 4 : 2, kChannels = 6;             // of a tile of `correlate`, at most
constexpr int kTaps = kMany ? 6 : 4, kOuterChannels = kMany ? 4 : 3; // of a tile of `outer`

struct Tile {
    int first, count;
};

// n things in tiles of at most `most`, as even as can be.
inline std::vector<Tile> tiles(int n, int most) {
    std::vector<Tile> found;
    int count = (n + most - 1) / most, first = 0;
    for (int i = 0; i < count; ++i) {
        int size = n / count + (i < n % count);
        found.push_back({first, size});
        first += size;
    }
    return found;
}

template <class S> struct Correlation {
    const V<S>* x;               // the first position
    ptrdiff_t x_step;            // to the next one
    const int32_t* offsets;      // of each tap
    int taps;
    const S* weights;            // (taps, channels)
    const S* bias;               // a channel each, or null
    bool relu;
    V<S>* out;
    const V<S>* mask;            // results stand only where this is above zero; null for everywhere
    ptrdiff_t step;              // of both, to the next position
    ptrdiff_t plane, mask_plane; // to the next channel
};

template <class S, int P, int C> void correlate(const Correlation<S>& job) {
    V<S> sum[C][P] = {};
    if (job.bias)
#pragma GCC unroll 16
        for (int c = 0; c < C; ++c)
#pragma GCC unroll 16
            for (int p = 0; p < P; ++p) sum[c][p] = splat<S>(job.bias[c]);
    const S* weights = job.weights;
    const V<S>* first = job.x;
    const ptrdiff_t step = job.x_step;
    const int32_t *offset = job.offsets, *end = offset + job.taps;
    for (; offset != end; ++offset, weights += C) {
        const V<S>* at = first + *offset;
        V<S> x[P];
#pragma GCC unroll 16
        for (int p = 0; p < P; ++p) x[p] = at[p * step];
#pragma GCC unroll 16
        for (int c = 0; c < C; ++c) {
            const V<S> weight = splat<S>(weights[c]);
#pragma GCC unroll 16
            for (int p = 0; p < P; ++p) sum[c][p] += x[p] * weight;
        }
    }
#pragma GCC unroll 16
    for (int c = 0; c < C; ++c)
#pragma GCC unroll 16
        for (int p = 0; p < P; ++p) {
            V<S> value = sum[c][p];
            if (job.relu) value = positive<S>(value);
            if (job.mask) value = where_positive<S>(job.mask[c * job.mask_plane + p * job.step], value);
            job.out[c * job.plane + p * job.step] = value;
        }
}

template <class S> struct Outer {
    const V<S>* x;               // of the first image, row and position
    ptrdiff_t x_group, x_row, x_step;
    const int32_t* offsets;      // of the taps
    const V<S>* g;               // gradients of the first channel
    ptrdiff_t g_group, g_row, g_plane;
    int groups, rows, columns;
    S* sums;                     // (taps, channels)
};

template <class S, int T, int C> void outer(const Outer<S>& job) {
    V<S> sum[T * C] = {};
    const V<S>* x[T];
    const ptrdiff_t step = job.x_step, plane = job.g_plane;
    for (int group = 0; group < job.groups; ++group)
        for (int row = 0; row < job.rows; ++row) {
            for (int t = 0; t < T; ++t) x[t] = job.x + group * job.x_group + row * job.x_row + job.offsets[t];
            const V<S>* g = job.g + group * job.g_group + row * job.g_row;
            ptrdiff_t at = 0;
            for (int column = 0; column < job.columns; ++column, ++g, at += step) {
                V<S> gradient[C];
#pragma GCC unroll 16
                for (int c = 0; c < C; ++c) gradient[c] = g[c * plane];
#pragma GCC unroll 16
                for (int t = 0; t < T; ++t) {
                    const V<S> value = x[t][at];
#pragma GCC unroll 16
                    for (int c = 0; c < C; ++c) sum[t * C + c] += value * gradient[c];
                }
            }
        }
    lane_sums<S, T * C>(sum, job.sums);
}

template <class S> using Correlate = void (*)(const Correlation<S>&);
template <class S> using Accumulate = void (*)(const Outer<S>&);

template <class S, int... I> constexpr auto all_correlate(std::integer_sequence<int, I...>) {
    return std::array<Correlate<S>, sizeof...(I)>{correlate<S, I / kChannels + 1, I % kChannels + 1>...};
}

template <class S, int... I> constexpr auto all_outer(std::integer_sequence<int, I...>) {
    return std::array<Accumulate<S>, sizeof...(I)>{outer<S, I / kOuterChannels + 1, I % kOuterChannels + 1>...};
}

template <class S> inline void run(const Correlation<S>& job, int positions, int channels) {
    static constexpr auto table = all_correlate<S>(std::make_integer_sequence<int, kPositions * kChannels>{});
    table[(positions - 1) * kChannels + channels - 1](job);
}

template <class S> inline void run(const Outer<S>& job, int taps, int channels) {
    static constexpr auto table = all_outer<S>(std::make_integer_sequence<int, kTaps * kOuterChannels>{});
    table[(taps - 1) * kOuterChannels + channels - 1](job);
}

}  // namespace kn
