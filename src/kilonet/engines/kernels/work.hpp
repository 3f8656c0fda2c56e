// What a net works in: a batch cut into shards, the maps of each, and what threads tell each other.
#pragma once
#include <memory>
#include <new>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "maps.hpp"
#include "threads.hpp"

namespace kn {

constexpr int kShards = 16;

// Some images in a row of those asked for, and how they are shared out: by their number alone.
template <class S> struct Batch {
    int64_t first, n;
    int groups, shards;

    Batch(int64_t first, int64_t n)
        : first(first), n(n), groups(int((n + L<S> - 1) / L<S>)), shards(std::min(groups, kShards)) {}
    int begin(int shard) const { return int(int64_t(shard) * groups / shards); }
    int size(int shard) const { return begin(shard + 1) - begin(shard); }
    int64_t images(int shard) const {
        return std::min<int64_t>(n, int64_t(begin(shard + 1)) * L<S>) - int64_t(begin(shard)) * L<S>;
    }
};

// Zeros, in one piece. Pages of two megabytes keep it from crowding into a part of the cache.
template <class S> class Memory {
  public:
    explicit Memory(ptrdiff_t vectors) {
        constexpr size_t page = 2 << 20;
        const size_t bytes = (size_t(vectors) * sizeof(V<S>) + page - 1) / page * page;
        first.reset(static_cast<V<S>*>(::operator new[](bytes, std::align_val_t(page))));
#if defined(__linux__)
        madvise(first.get(), bytes, MADV_HUGEPAGE);
#endif
        std::memset(static_cast<void*>(first.get()), 0, size_t(vectors) * sizeof(V<S>));
    }
    V<S>* get() const { return first.get(); }

  private:
    struct Free {
        void operator()(V<S>* p) const { ::operator delete[](p, std::align_val_t(2 << 20)); }
    };
    std::unique_ptr<V<S>[], Free> first;
};

// The maps of some groups, in front of each layer and behind the last, and the gradients by them: in place, unless the
// layer that writes one still reads the activation (pools), or there is none (the last).
template <class S> struct Space {
    Space(const std::vector<KnLayer>& plan, const std::vector<Shape>& shapes, int groups, bool learning)
        : memory(size(plan, shapes, learning) * groups), valid(size_t(groups)) {
        V<S>* next = memory.get();
        for (size_t i = 0; i < shapes.size(); ++i) {
            maps.push_back(next), next += shapes[i].size() * groups;
            if (!learning || i == 0) gradients.push_back(nullptr);
            else if (in_place(plan, i)) gradients.push_back(maps[i]);
            else gradients.push_back(next), next += shapes[i].size() * groups;
        }
    }

    Memory<S> memory;
    std::vector<V<S>*> maps, gradients;  // no gradient by the first map
    std::vector<V<S>> valid;             // 1 for each lane of each group that holds an image

  private:
    static bool in_place(const std::vector<KnLayer>& plan, size_t i) {
        return i < plan.size() && plan[i].kind != KN_MAX_POOL && plan[i].kind != KN_AVG_POOL;
    }
    static ptrdiff_t size(const std::vector<KnLayer>& plan, const std::vector<Shape>& shapes, bool learning) {
        ptrdiff_t all = 0;
        for (size_t i = 0; i < shapes.size(); ++i)
            all += shapes[i].size() * (learning && i > 0 && !in_place(plan, i) ? 2 : 1);
        return all;
    }
};

// What the shards found of a norm's channels: (shards, channels).
struct Sums {
    Sums(int shards, int channels) : channels(channels) {
        for (auto* one : {&mean, &squares, &plain, &weighted}) one->resize(size_t(shards) * size_t(channels));
    }
    int channels;
    std::vector<double> mean, squares, plain, weighted;
};

// What a thread has to itself: the layers with the weights as the kernels read them, and mean and 1 / standard deviation
// of each norm's channels.
template <class S, class Layer> struct Own {
    std::vector<Layer> layers;
    std::vector<std::vector<S>> mean, rate;
};

template <class S, class Layer> struct Work {
    explicit Work(int threads) : threads(threads), barrier(threads), own(size_t(threads)) {}
    int threads;
    Barrier barrier;
    std::vector<Space<S>> spaces;          // a shard each where norms make shards wait, else a thread each
    std::vector<Own<S, Layer>> own;        // a thread each
    std::vector<std::vector<S>> gradients; // a shard each, all parameters
    std::vector<Sums> sums;                // a norm each
    std::vector<double> losses;            // a shard each

    // The thread that a shard is for: each has some in a row.
    int owner(int shard, int shards) const { return ((shard + 1) * threads - 1) / shards; }

    double loss(const Batch<S>& batch) const {
        double sum = 0;
        for (int s = 0; s < batch.shards; ++s) sum += losses[size_t(s)];
        return sum / double(batch.n);
    }
};

}  // namespace kn
