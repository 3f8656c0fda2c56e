// What the processor could do at best: multiplications with an addition in a bare loop, all in registers.
#pragma once
#include <chrono>

#include "threads.hpp"
#include "tiles.hpp"

namespace kn {

// Floating-point operations a second, of all threads together.
inline double peak(int threads, double seconds) {
    std::vector<double> rates(static_cast<size_t>(threads));
    Barrier barrier(threads);
    in_parallel(threads, [&](int thread) {
        using Clock = std::chrono::steady_clock;
        constexpr int loops = 10'000;
        V<float> sums[kSums] = {}, x = splat<float>(0.5f), y = splat<float>(1.0f);
        double operations = 0, taken = 0;
        barrier.wait();
        const auto start = Clock::now();
        while (taken < seconds) {
            for (int loop = 0; loop < loops; ++loop)
#pragma GCC unroll 24
                for (int i = 0; i < kSums; ++i) sums[i] = sums[i] * x + y;
            operations += 2.0 * loops * kSums * L<float>;
            taken = std::chrono::duration<double>(Clock::now() - start).count();
        }
        for (V<float>& sum : sums) hold(sum);
        rates[static_cast<size_t>(thread)] = operations / taken;
    });
    double all = 0;
    for (double rate : rates) all += rate;
    return all;
}

}  // namespace kn
