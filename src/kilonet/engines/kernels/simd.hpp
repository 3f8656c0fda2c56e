// Vectors of as many images as a register holds: every layer computes them side by side, a lane an image.
#pragma once
#include <cstdint>
#include <cstring>
#include <utility>

namespace kn {

#if defined(__AVX512F__)
constexpr int kBytes = 64, kRegisters = 32;
#elif defined(__AVX2__)
constexpr int kBytes = 32, kRegisters = 16;
#elif defined(__aarch64__)
constexpr int kBytes = 16, kRegisters = 32;
#else
constexpr int kBytes = 16, kRegisters = 16;
#endif

template <class S> struct Simd {
    static constexpr int lanes = kBytes / sizeof(S);
    typedef S V __attribute__((vector_size(kBytes)));
    typedef int32_t Words __attribute__((vector_size(lanes * 4)));
};

template <class S> using V = typename Simd<S>::V;
template <class S> constexpr int L = Simd<S>::lanes;

template <class S> inline V<S> splat(S value) { return value - V<S>{}; }

// Keeps a value in a register: without it, the compiler reads it from memory at each use.
template <class T> inline void hold(T& value) {
#if defined(__x86_64__)
    asm("" : "+v"(value));
#elif defined(__aarch64__)
    asm("" : "+w"(value));
#endif
}

// The greater of x and 0; NaN stays, so that a training that went wrong is noticed.
template <class S> inline V<S> positive(V<S> x) { return x < 0 ? V<S>{} : x; }

// Where `of` is above zero, else 0.
template <class S> inline V<S> where_positive(V<S> of, V<S> x) { return of > 0 ? x : V<S>{}; }

// Each vector is made of runs of B lanes, a run a sum to be; fold the halves of the runs of two vectors into one.
template <int B, class T, int... I>
inline T fold_runs(T a, T b, std::integer_sequence<int, I...>) {
    return __builtin_shufflevector(a, b, (I / (B / 2) * B + I % (B / 2))...) +
           __builtin_shufflevector(a, b, (I / (B / 2) * B + I % (B / 2) + B / 2)...);
}

template <class S, int N, int B> inline V<S> fold(V<S>* x) {
    if constexpr (B == 1) {
        return x[0];
    } else {
        constexpr int half = N > 1 ? N / 2 : 1;
#pragma GCC unroll 16
        for (int i = 0; i < half; ++i)
            x[i] = fold_runs<B>(x[N > 1 ? 2 * i : 0], x[N > 1 ? 2 * i + 1 : 0],
                                std::make_integer_sequence<int, L<S>>{});
        return fold<S, half, B / 2>(x);
    }
}

constexpr int power_of_two(int n, int most) { return n >= most ? most : n == 1 ? 1 : 2 * power_of_two((n + 1) / 2, most / 2); }

// The sum over the lanes of each of N vectors.
template <class S, int N> inline void lane_sums(const V<S>* x, S* sums) {
    constexpr int fit = power_of_two(N, L<S>), some = N < fit ? N : fit;
    V<S> run[fit] = {};
#pragma GCC unroll 16
    for (int i = 0; i < some; ++i) run[i] = x[i];
    const V<S> folded = fold<S, fit, L<S>>(run);
    std::memcpy(sums, &folded, some * sizeof(S));
    if constexpr (N > some) lane_sums<S, N - some>(x + some, sums + some);
}

template <class S> inline double lane_sum(V<S> x) {
    double sum = 0;
    for (int i = 0; i < L<S>; ++i) sum += x[i];
    return sum;
}

template <int D, class T, int N, int... I> inline void exchange(T& a, T& b, std::integer_sequence<int, I...>) {
    const T low = __builtin_shufflevector(a, b, (I & D ? N + (I - D) : I)...);
    const T high = __builtin_shufflevector(a, b, (I & D ? N + I : I + D)...);
    a = low, b = high;
}

// Transpose N vectors of N lanes.
template <class T, int N, int D = N / 2> inline void transpose(T (&rows)[N]) {
    if constexpr (D > 0) {
#pragma GCC unroll 16
        for (int i = 0; i < N; ++i)
            if (!(i & D)) exchange<D, T, N>(rows[i], rows[i + D], std::make_integer_sequence<int, N>{});
        transpose<T, N, D / 2>(rows);
    }
}

// One of the four bytes of each lane's word.
template <class S> inline V<S> byte_of(typename Simd<S>::Words words, int which) {
    return __builtin_convertvector((words >> (8 * which)) & 255, V<S>);
}

}  // namespace kn
