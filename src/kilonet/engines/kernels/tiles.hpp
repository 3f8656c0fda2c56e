// The two kernels that all the arithmetic of convolutions and linear layers goes through.
//
// `correlate`: outputs of a tile of positions and channels, each a sum over taps. A tap is an offset into the input and
// a weight for each channel; forward passes and gradients of the input differ only in their taps.
// `outer`: gradients of a tile of weights, each a sum over positions and images of input times gradient.
// A tile's sums stay in registers. `dense` does for layers over single values what `outer` does for maps.
#pragma once
#include <array>
#include <cstddef>
#include <vector>

#include "simd.hpp"

namespace kn {

constexpr bool kMany = kRegisters == 32;
constexpr int kSums = kMany ? 24 : 12;            // of a tile, at most
constexpr int kPositions = kMany ? 4 : 2;         // of a tile of `correlate`, at most; its channels: kSums / positions
constexpr int kAlone = 8;                         // positions of one of `correlate` for a single channel, at most
constexpr int kAloneRows = 3, kAloneColumns = 5;  // taps of one of `outer` for a single channel, at most
constexpr int kTaps = 6, kOuterChannels = 8;      // of a tile of `outer`, at most

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
    ptrdiff_t x_tap, x_below;    // from a tap to the next one, and to the one below
    ptrdiff_t x_group, x_row, x_step;
    const V<S>* g;               // gradients of the first channel
    ptrdiff_t g_group, g_row, g_plane;
    int groups, rows, columns;
    S* sums;                     // (taps, channels)
};

// The taps are H rows of W. A channel with a kernel to itself takes several rows, so that enough sums are under way.
template <class S, int H, int W, int C> void outer(const Outer<S>& job) {
    constexpr int T = H * W;
    V<S> sum[T * C] = {};
    const ptrdiff_t tap = job.x_tap, below = job.x_below, step = job.x_step, plane = job.g_plane;
    for (int group = 0; group < job.groups; ++group)
        for (int row = 0; row < job.rows; ++row) {
            const V<S>* x = job.x + group * job.x_group + row * job.x_row;
            const V<S>* g = job.g + group * job.g_group + row * job.g_row;
            for (int column = 0; column < job.columns; ++column, ++g, x += step) {
                V<S> value[T];
#pragma GCC unroll 16
                for (int t = 0; t < T; ++t) value[t] = x[t / W * below + t % W * tap];
#pragma GCC unroll 16
                for (int c = 0; c < C; ++c) {
                    V<S> gradient = g[c * plane];
                    hold(gradient);
#pragma GCC unroll 16
                    for (int t = 0; t < T; ++t) sum[t * C + c] += value[t] * gradient;
                }
            }
        }
    lane_sums<S, T * C>(sum, job.sums);
}

// Gradients of a dense layer's weights: of some channels by as many inputs as there are lanes, summed over the images.
// `x` are the inputs' vectors, `g` the channels'; `sums` has a vector over the inputs for each channel.
template <class S, int C> void dense(const V<S>* x, int inputs, const V<S>* g, ptrdiff_t plane, V<S>* sums) {
    V<S> rows[L<S>] = {}, sum[C];
    for (int i = 0; i < inputs; ++i) rows[i] = x[i];
    transpose(rows);
#pragma GCC unroll 24
    for (int c = 0; c < C; ++c) sum[c] = sums[c];
    for (int image = 0; image < L<S>; ++image) {
#pragma GCC unroll 24
        for (int c = 0; c < C; ++c)
            sum[c] += rows[image] * splat<S>(reinterpret_cast<const S*>(g + c * plane)[image]);
    }
#pragma GCC unroll 24
    for (int c = 0; c < C; ++c) sums[c] = sum[c];
}

template <class S> using Correlate = void (*)(const Correlation<S>&);
template <class S> using Accumulate = void (*)(const Outer<S>&);
template <class S> using Dense = void (*)(const V<S>*, int, const V<S>*, ptrdiff_t, V<S>*);

constexpr int kDense = 12;

// Every size of tile whose sums fit into the registers.
template <class S, int... I> constexpr auto all_correlate(std::integer_sequence<int, I...>) {
    return std::array<Correlate<S>, sizeof...(I)>{[] {
        constexpr int P = I / kSums + 1, C = I % kSums + 1;
        if constexpr (C == 1 || (P <= kPositions && P * C <= kSums)) return Correlate<S>(correlate<S, P, C>);
        else return Correlate<S>(nullptr);
    }()...};
}

template <class S, int... I> constexpr auto all_outer(std::integer_sequence<int, I...>) {
    return std::array<Accumulate<S>, sizeof...(I)>{[] {
        constexpr int T = I / kOuterChannels + 1, C = I % kOuterChannels + 1;
        if constexpr (T * C <= kSums) return Accumulate<S>(outer<S, 1, T, C>);
        else return Accumulate<S>(nullptr);
    }()...};
}

template <class S, int... I> constexpr auto all_alone(std::integer_sequence<int, I...>) {
    return std::array<Accumulate<S>, sizeof...(I)>{outer<S, I / kAloneColumns + 1, I % kAloneColumns + 1, 1>...};
}

template <class S, int... I> constexpr auto all_dense(std::integer_sequence<int, I...>) {
    return std::array<Dense<S>, sizeof...(I)>{dense<S, I + 1>...};
}

template <class S> inline void run(const Correlation<S>& job, int positions, int channels) {
    static constexpr auto table = all_correlate<S>(std::make_integer_sequence<int, kAlone * kSums>{});
    table[size_t((positions - 1) * kSums + channels - 1)](job);
}

template <class S> inline void run(const Outer<S>& job, int taps, int channels) {
    static constexpr auto table = all_outer<S>(std::make_integer_sequence<int, kTaps * kOuterChannels>{});
    table[size_t((taps - 1) * kOuterChannels + channels - 1)](job);
}

template <class S> inline void run_alone(const Outer<S>& job, int rows, int columns) {
    static constexpr auto table = all_alone<S>(std::make_integer_sequence<int, kAloneRows * kAloneColumns>{});
    table[size_t((rows - 1) * kAloneColumns + columns - 1)](job);
}

template <class S>
inline void run_dense(const V<S>* x, int inputs, const V<S>* g, ptrdiff_t plane, int channels, V<S>* sums) {
    static constexpr auto table = all_dense<S>(std::make_integer_sequence<int, kDense>{});
    table[size_t(channels - 1)](x, inputs, g, plane, sums);
}

}  // namespace kn
