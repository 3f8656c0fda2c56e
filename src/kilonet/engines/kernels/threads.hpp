// Threads that share a step.
#pragma once
#include <atomic>
#include <thread>
#include <vector>

namespace kn {

// Where threads wait for each other; one that has waited for some microseconds lets others use its core.
class Barrier {
  public:
    explicit Barrier(int threads) : threads(threads), waiting(threads) {}

    void wait() {
        const int now = turn.load(std::memory_order_relaxed);
        if (waiting.fetch_sub(1, std::memory_order_acq_rel) == 1) {
            waiting.store(threads, std::memory_order_relaxed);
            turn.store(now + 1, std::memory_order_release);
            return;
        }
        for (int spins = 0; turn.load(std::memory_order_acquire) == now; ++spins)
            if (spins > 40000) std::this_thread::yield();
    }

  private:
    const int threads;
    std::atomic<int> waiting, turn{0};
};

template <class F> void in_parallel(int threads, F work) {
    std::vector<std::thread> others;
    for (int t = 1; t < threads; ++t) others.emplace_back(work, t);
    work(0);
    for (std::thread& other : others) other.join();
}

}  // namespace kn
