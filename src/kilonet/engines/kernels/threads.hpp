// Threads that share a step.
#pragma once
#if defined(__linux__)
#include <pthread.h>
#include <sched.h>
#endif
#include <atomic>
#include <thread>
#include <vector>

namespace kn {

// Where threads wait for each other. One that has waited for some tenths of a millisecond lets others use its core: not
// sooner, for on a busy machine it gets the core back a time slice later, and its partner waits for it in turn.
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
            if (spins > 400000) std::this_thread::yield();
    }

  private:
    const int threads;
    std::atomic<int> waiting, turn{0};
};

// Linux may leave a new thread queued behind the one that made it, for as long as 8 ms: send it to another core.
inline void send_away(std::thread& thread) {
#if defined(__linux__)
    cpu_set_t all, others;
    if (pthread_getaffinity_np(pthread_self(), sizeof all, &all)) return;
    others = all;
    CPU_CLR(sched_getcpu(), &others);
    if (!CPU_COUNT(&others)) return;
    pthread_setaffinity_np(thread.native_handle(), sizeof others, &others);
    pthread_setaffinity_np(thread.native_handle(), sizeof all, &all);
#else
    (void)thread;
#endif
}

template <class F> void in_parallel(int threads, F work) {
    std::vector<std::thread> others;
    for (int t = 1; t < threads; ++t) {
        others.emplace_back(work, t);
        send_away(others.back());
    }
    work(0);
    for (std::thread& other : others) other.join();
}

}  // namespace kn
