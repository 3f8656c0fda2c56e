// A net: its layers over a batch, in shards that threads share.
//
// A batch is cut into groups of as many images as there are lanes, the groups into shards, by its size alone. Sums over a
// batch are those of its shards in their order: the number of threads does not change a bit of the result.
#pragma once
#include <numeric>
#include <variant>

#include "convolution.hpp"
#include "input.hpp"
#include "learning.hpp"
#include "norm.hpp"
#include "plain.hpp"
#include "work.hpp"

namespace kn {

class AnyNet {
  public:
    virtual ~AnyNet() = default;
    virtual int64_t train(const KnImages&, int64_t batch, const double* rates, const KnUpdate&, double smoothing,
                          double* losses, int threads) = 0;
    virtual double gradients(const KnImages&, double smoothing, void* const* gradients, int threads) = 0;
    virtual double measure(const KnImages&, int64_t* right, int threads) = 0;
    virtual void logits(const KnImages&, void* logits, int threads) = 0;
};

template <class S> class Net final : public AnyNet {
    using Layer = std::variant<Convolutions<S>, Norm<S>, Plain<S>>;
    using Batch = kn::Batch<S>;
    using Space = kn::Space<S>;
    using Own = kn::Own<S, Layer>;
    using Work = kn::Work<S, Layer>;

  public:
    Net(const KnLayer* given, int count, void* const* parameters, const int64_t* sizes, int n_parameters,
        void* const* running, int n_norms, const double* mean, const double* std, Shape image)
        : plan(given, given + count), maps(lay_out(plan)), sizes(sizes, sizes + n_parameters),
          input({image.c, image.h, image.w, maps[0].py, maps[0].px}, {mean, mean + image.c}, {std, std + image.c}) {
        for (int i = 0; i < n_parameters; ++i) {
            values.push_back(static_cast<S*>(parameters[i]));
            starts.push_back(total);
            total += sizes[i];
        }
        for (int i = 0; i < 2 * n_norms; ++i) moments.push_back(static_cast<S*>(running[i]));
        for (size_t i = 0; i < plan.size(); ++i) {
            const KnLayer& l = plan[i];
            const LayerShapes s{maps[i], maps[i + 1], i && plan[i - 1].relu};
            if (l.kind == KN_CONV) layers.emplace_back(Convolutions<S>(l, s));
            else if (l.kind == KN_NORM) layers.emplace_back(Norm<S>(l, s));
            else layers.emplace_back(Plain<S>(l, s));
            if (l.kind == KN_NORM) norms.push_back(int(i));
        }
        classes = plan.back().oc;
    }

    int64_t train(const KnImages& images, int64_t batch, const double* rates, const KnUpdate& update,
                  double smoothing, double* losses, int threads) override {
        const int64_t steps = (images.n + batch - 1) / batch;
        Work& work = prepare(std::min(batch, images.n), threads, true);
        int64_t done = 0;
        in_parallel(work.threads, [&](int thread) {
            pack(work.own[size_t(thread)], true);
            for (int64_t step = 0; step < steps; ++step) {
                const Batch some(step * batch, std::min(batch, images.n - step * batch));
                learn(work, images, some, smoothing, thread);
                add_own(work, some.shards, thread);
                work.barrier.wait();
                const double loss = work.loss(some);
                const Rule<S> rule(update, rates[step], update.steps + step + 1);
                each_slice(work, thread, some.shards, [&](int i, int64_t from, int64_t n, const S* gradient) {
                    S* first = update.first ? static_cast<S*>(update.first[i]) + from : nullptr;
                    S* second = update.second ? static_cast<S*>(update.second[i]) + from : nullptr;
                    rule(n, values[size_t(i)] + from, gradient, first, second);
                });
                if (thread == 0) losses[step] = loss, done = step + 1;
                work.barrier.wait();
                if (!std::isfinite(loss)) break;
                pack(work.own[size_t(thread)], true);
            }
        });
        return done;
    }

    double gradients(const KnImages& images, double smoothing, void* const* gradients, int threads) override {
        Work& work = prepare(images.n, threads, true);
        const Batch whole(0, images.n);
        in_parallel(work.threads, [&](int thread) {
            pack(work.own[size_t(thread)], true);
            learn(work, images, whole, smoothing, thread);
            add_own(work, whole.shards, thread);
            work.barrier.wait();
            each_slice(work, thread, whole.shards, [&](int i, int64_t from, int64_t n, const S* gradient) {
                std::copy_n(gradient, n, static_cast<S*>(gradients[i]) + from);
            });
        });
        return work.loss(whole);
    }

    double measure(const KnImages& images, int64_t* right, int threads) override {
        std::vector<double> losses(size_t((images.n + L<S> - 1) / L<S>));
        std::vector<int> hits(losses.size());
        each_group(images, threads, [&](int64_t group, int count, const V<S>* logits) {
            int64_t labels[L<S>];
            for (int lane = 0; lane < count; ++lane) labels[lane] = label(images, group * L<S> + lane);
            const Score score = measured<S>(logits, labels, count, classes);
            losses[size_t(group)] = score.loss, hits[size_t(group)] = score.right;
        });
        *right = std::accumulate(hits.begin(), hits.end(), int64_t(0));
        return std::accumulate(losses.begin(), losses.end(), 0.0) / double(images.n);
    }

    void logits(const KnImages& images, void* logits, int threads) override {
        each_group(images, threads, [&](int64_t group, int count, const V<S>* found) {
            S* to = static_cast<S*>(logits) + group * L<S> * classes;
            for (int lane = 0; lane < count; ++lane)
                for (int k = 0; k < classes; ++k) to[lane * classes + k] = found[k][lane];
        });
    }

  private:
    static int64_t label(const KnImages& images, int64_t i) { return images.labels[images.rows ? images.rows[i] : i]; }

    // The logits of each group, by running statistics.
    template <class F> void each_group(const KnImages& images, int threads, F todo) {
        const int64_t groups = (images.n + L<S> - 1) / L<S>;
        Work& work = prepare(L<S>, int(std::min<int64_t>(threads, groups)), false);
        in_parallel(work.threads, [&](int thread) {
            Own& own = work.own[size_t(thread)];
            pack(own, false);
            use_running(own);
            Space& space = work.spaces[size_t(thread)];
            for (int64_t group = thread; group < groups; group += work.threads) {
                const int count = int(std::min<int64_t>(L<S>, images.n - group * L<S>));
                input.load(images, group * L<S>, count, space.maps[0]);
                for (size_t i = 0; i < layers.size(); ++i) forward(own, space, i, 1);
                todo(group, count, space.maps.back());
            }
        });
    }

    // All memory for batches of a size; that of the last call, if it is the same.
    Work& prepare(int64_t batch, int threads, bool learning) {
        const Batch whole(0, batch);
        const int shards = learning ? whole.shards : threads;
        threads = std::max(1, std::min(threads, shards));
        if (kept && kept_batch == batch && kept->threads == threads && kept->losses.empty() != learning) return *kept;
        kept.reset();
        auto made = std::make_unique<Work>(threads);
        Work& work = *made;
        const int spaces = learning && !norms.empty() ? shards : work.threads;
        const int groups = learning ? (whole.groups + shards - 1) / shards : 1;
        for (int i = 0; i < spaces; ++i) work.spaces.emplace_back(plan, maps, groups, learning);
        for (Own& one : work.own) {
            one.layers = layers;
            for (int i : norms) {
                one.mean.emplace_back(size_t(plan[size_t(i)].c));
                one.rate.emplace_back(size_t(plan[size_t(i)].c));
            }
        }
        if (learning) {
            for (int i : norms) work.sums.emplace_back(shards, plan[size_t(i)].c);
            work.gradients.assign(size_t(shards), std::vector<S>(size_t(total)));
            work.losses.assign(size_t(shards), 0.0);
        }
        kept = std::move(made), kept_batch = batch;
        return *kept;
    }

    void pack(Own& own, bool learning) const {
        for (size_t i = 0; i < layers.size(); ++i)
            if (auto* layer = std::get_if<Convolutions<S>>(&own.layers[i]))
                layer->pack(values[size_t(plan[i].weight)], learning && i > 0);
    }

    Maps<S> of(const Space& space, size_t i, int groups) const {
        return {space.maps[i], space.maps[i + 1], space.gradients[i + 1], space.gradients[i], groups};
    }

    const S* parameter(int index) const { return index < 0 ? nullptr : values[size_t(index)]; }

    void forward(const Own& own, Space& space, size_t i, int groups) const {
        const Maps<S> m = of(space, i, groups);
        if (auto* conv = std::get_if<Convolutions<S>>(&own.layers[i])) conv->forward(m, parameter(plan[i].bias));
        else if (auto* plain = std::get_if<Plain<S>>(&layers[i])) plain->forward(m);
        else {
            const size_t norm = size_t(plan[i].norm);
            std::get<Norm<S>>(layers[i]).forward(m, own.mean[norm].data(), own.rate[norm].data(),
                                                 parameter(plan[i].weight), parameter(plan[i].bias));
        }
    }

    void backward(Work& work, const Own& own, Space& space, size_t i, int groups, int shard) const {
        const Maps<S> m = of(space, i, groups);
        if (auto* conv = std::get_if<Convolutions<S>>(&own.layers[i])) {
            S* gradient = work.gradients[size_t(shard)].data();
            S* bias = plan[i].bias < 0 ? nullptr : gradient + starts[size_t(plan[i].bias)];
            conv->weight_gradient(m, gradient + starts[size_t(plan[i].weight)], bias);
            if (i) conv->input_gradient(m);
        } else if (i) {
            std::get<Plain<S>>(layers[i]).input_gradient(m);
        }
    }

    // Each shard of this thread.
    template <class F> void each_shard(const Work& work, const Batch& batch, int thread, F todo) const {
        for (int shard = 0; shard < batch.shards; ++shard)
            if (work.owner(shard, batch.shards) == thread) todo(shard, batch.size(shard));
    }

    Space& space(Work& work, int shard, int thread) const {
        return work.spaces[size_t(norms.empty() ? thread : shard)];
    }

    // The gradient of a batch, shard by shard; norms divide the layers, since they need all shards at once.
    void learn(Work& work, const KnImages& images, const Batch& batch, double smoothing, int thread) {
        const size_t n = layers.size(), stops = norms.size();
        const Own& own = work.own[size_t(thread)];
        const size_t first_stop = stops ? size_t(norms[0]) : n;
        each_shard(work, batch, thread, [&](int shard, int groups) {
            Space& here = space(work, shard, thread);
            load(images, batch, shard, here);
            for (size_t i = 0; i < first_stop; ++i) forward(own, here, i, groups);
            if (!stops) {
                cost(work, images, batch, shard, here, smoothing);
                for (size_t i = n; i-- > 0;) backward(work, own, here, i, groups, shard);
            }
        });
        for (size_t stop = 0; stop < stops; ++stop) {
            measure(work, batch, size_t(norms[stop]), thread);
            const size_t end = stop + 1 < stops ? size_t(norms[stop + 1]) : n;
            each_shard(work, batch, thread, [&](int shard, int groups) {
                Space& here = space(work, shard, thread);
                for (size_t i = size_t(norms[stop]); i < end; ++i) forward(own, here, i, groups);
                if (end == n) {
                    cost(work, images, batch, shard, here, smoothing);
                    for (size_t i = n; i-- > size_t(norms[stop]) + 1;) backward(work, own, here, i, groups, shard);
                }
            });
        }
        for (size_t stop = stops; stop-- > 0;) {
            normalise_back(work, batch, size_t(norms[stop]), thread);
            const size_t begin = stop ? size_t(norms[stop - 1]) + 1 : 0;
            each_shard(work, batch, thread, [&](int shard, int groups) {
                Space& here = space(work, shard, thread);
                for (size_t i = size_t(norms[stop]); i-- > begin;) backward(work, own, here, i, groups, shard);
            });
        }
    }

    void load(const KnImages& images, const Batch& batch, int shard, Space& space) const {
        for (int g = 0; g < batch.size(shard); ++g) {
            const int64_t at = int64_t(batch.begin(shard) + g) * L<S>;
            const int count = int(std::min<int64_t>(L<S>, batch.n - at));
            input.load(images, batch.first + at, count, space.maps[0] + g * maps[0].size());
            for (int lane = 0; lane < L<S>; ++lane) space.valid[size_t(g)][lane] = lane < count;
        }
    }

    void cost(Work& work, const KnImages& images, const Batch& batch, int shard, Space& space, double smoothing) const {
        double loss = 0;
        int64_t labels[L<S>];
        for (int g = 0; g < batch.size(shard); ++g) {
            const int64_t at = int64_t(batch.begin(shard) + g) * L<S>;
            const int count = int(std::min<int64_t>(L<S>, batch.n - at));
            for (int lane = 0; lane < count; ++lane) labels[lane] = label(images, batch.first + at + lane);
            const V<S>* logits = space.maps.back() + ptrdiff_t(g) * classes;
            V<S>* gradient = space.gradients.back() + ptrdiff_t(g) * classes;
            loss += cross_entropy<S>(logits, labels, count, classes, batch.n, smoothing, gradient);
            if (plan.back().relu)
                for (int k = 0; k < classes; ++k) gradient[k] = where_positive<S>(logits[k], gradient[k]);
        }
        work.losses[size_t(shard)] = loss;
    }

    // Mean and variance of a norm's input over the batch, by all threads; every thread ends knowing them.
    void measure(Work& work, const Batch& batch, size_t i, int thread) {
        const Norm<S>& norm = std::get<Norm<S>>(layers[i]);
        const size_t index = size_t(plan[i].norm);
        Own& own = work.own[size_t(thread)];
        Sums& sums = work.sums[index];
        const int area = plan[i].h * plan[i].w;
        each_shard(work, batch, thread, [&](int shard, int groups) {
            Space& here = space(work, shard, thread);
            const ptrdiff_t at = ptrdiff_t(shard) * sums.channels;
            norm.moments(of(here, i, groups), here.valid.data(), double(batch.images(shard)) * area,
                         sums.mean.data() + at, sums.squares.data() + at);
        });
        work.barrier.wait();
        const double n = double(batch.n) * area, keep = 1 - plan[i].momentum;
        for (int c = 0; c < sums.channels; ++c) {
            double mean = 0, squares = 0;
            for (int s = 0; s < batch.shards; ++s)
                mean += double(batch.images(s)) / double(batch.n) * sums.mean[size_t(s * sums.channels + c)];
            for (int s = 0; s < batch.shards; ++s) {
                const double off = sums.mean[size_t(s * sums.channels + c)] - mean;
                squares += sums.squares[size_t(s * sums.channels + c)] + double(batch.images(s)) * area * off * off;
            }
            own.mean[index][size_t(c)] = S(mean);
            own.rate[index][size_t(c)] = S(1 / std::sqrt(squares / n + plan[i].eps));
            if (thread) continue;
            S &kept_mean = moments[2 * index][c], &kept_var = moments[2 * index + 1][c];
            kept_mean = S(keep * kept_mean + plan[i].momentum * mean);
            kept_var = S(keep * kept_var + plan[i].momentum * squares / (n - 1));
        }
    }

    void normalise_back(Work& work, const Batch& batch, size_t i, int thread) const {
        const Norm<S>& norm = std::get<Norm<S>>(layers[i]);
        const size_t index = size_t(plan[i].norm);
        const S *mean = work.own[size_t(thread)].mean[index].data(), *rate = work.own[size_t(thread)].rate[index].data();
        Sums& sums = work.sums[index];
        each_shard(work, batch, thread, [&](int shard, int groups) {
            double *plain = sums.plain.data() + ptrdiff_t(shard) * sums.channels;
            double *weighted = sums.weighted.data() + ptrdiff_t(shard) * sums.channels;
            norm.gradient_sums(of(space(work, shard, thread), i, groups), mean, rate, plain, weighted);
            S* gradient = work.gradients[size_t(shard)].data();
            std::copy_n(plain, sums.channels, gradient + starts[size_t(plan[i].bias)]);
            std::copy_n(weighted, sums.channels, gradient + starts[size_t(plan[i].weight)]);
        });
        work.barrier.wait();
        if (i == 0) return;
        const double n = double(batch.n) * plan[i].h * plan[i].w;
        std::vector<S> plain, weighted;
        for (int c = 0; c < sums.channels; ++c) {
            plain.push_back(S(over(batch, sums.plain, sums.channels, c) / n));
            weighted.push_back(S(over(batch, sums.weighted, sums.channels, c) / n));
        }
        each_shard(work, batch, thread, [&](int shard, int groups) {
            Space& here = space(work, shard, thread);
            norm.input_gradient(of(here, i, groups), here.valid.data(), mean, rate, parameter(plan[i].weight),
                                plain.data(), weighted.data());
        });
    }

    // The sum of what all shards found of a channel.
    static double over(const Batch& batch, const std::vector<double>& found, int channels, int c) {
        double sum = 0;
        for (int s = 0; s < batch.shards; ++s) sum += found[size_t(s * channels + c)];
        return sum;
    }

    // What a net in use normalises with.
    void use_running(Own& own) const {
        for (size_t norm = 0; norm < norms.size(); ++norm) {
            const KnLayer& l = plan[size_t(norms[norm])];
            for (int c = 0; c < l.c; ++c) {
                own.mean[norm][size_t(c)] = moments[2 * norm][c];
                own.rate[norm][size_t(c)] = S(1 / std::sqrt(double(moments[2 * norm + 1][c]) + l.eps));
            }
        }
    }

    // Gradients of shards are summed up a tree, whoever does it: a thread adds those of its own shards while they are in
    // its cache, and its slice of the others once all are there.
    template <class F> static void each_pair(int shards, F todo) {
        for (int width = 1; width < shards; width *= 2)
            for (int s = 0; s + width < shards; s += 2 * width) todo(s, s + width, std::min(s + 2 * width, shards) - 1);
    }

    static void add(Work& work, int to, int from, int64_t begin, int64_t end) {
        S* __restrict sum = work.gradients[size_t(to)].data();
        const S* __restrict other = work.gradients[size_t(from)].data();
        for (int64_t i = begin; i < end; ++i) sum[i] += other[i];
    }

    void add_own(Work& work, int shards, int thread) const {
        each_pair(shards, [&](int to, int from, int last) {
            if (work.owner(to, shards) == thread && work.owner(last, shards) == thread) add(work, to, from, 0, total);
        });
    }

    // This thread's share of all parameters, with their gradients, parameter by parameter.
    template <class F> void each_slice(Work& work, int thread, int shards, F todo) const {
        const int64_t begin = total * thread / work.threads, end = total * (thread + 1) / work.threads;
        each_pair(shards, [&](int to, int from, int last) {
            if (work.owner(to, shards) != work.owner(last, shards)) add(work, to, from, begin, end);
        });
        const S* sum = work.gradients[0].data();
        for (size_t i = 0; i < sizes.size(); ++i) {
            const int64_t from = std::max(begin, starts[i]), to = std::min(end, starts[i] + sizes[i]);
            if (from < to) todo(int(i), from - starts[i], to - from, sum + from);
        }
    }

    std::vector<KnLayer> plan;
    std::vector<Shape> maps;
    std::vector<int64_t> sizes, starts;
    int64_t total = 0;
    Input<S> input;
    std::vector<S*> values, moments;
    std::vector<Layer> layers;
    std::vector<int> norms;  // which layers they are; `KnLayer::norm` counts them in this order
    int classes = 0;
    std::unique_ptr<Work> kept;
    int64_t kept_batch = 0;
};

}  // namespace kn
