// Batch normalisation. What concerns a whole batch is put together by the net; here are the parts over some groups.
#pragma once
#include "maps.hpp"

namespace kn {

template <class S> class Norm {
  public:
    Norm(const KnLayer& layer, const LayerShapes& shapes) : l(layer), s(shapes) {}

    // Mean of each channel, and the sum of squares of the distances from it, over so many values that count.
    // They are summed as distances from one of the values, so that a great mean costs no digits.
    void moments(const Maps<S>& m, const V<S>* valid, double n, double* mean, double* squares) const {
        for (int c = 0; c < l.c; ++c) {
            const S pivot = input(m, 0, c, l.h / 2, l.w / 2)[0];
            const Sums sums = each(m.groups, [&](int g, int y, int x, Sums& to) {
                const V<S> d = (input(m, g, c, y, x) - pivot) * valid[g];
                to.first += d;
                to.second += d * d;
            });
            const double total = lane_sum<S>(sums.first);
            mean[c] = pivot + total / n;
            squares[c] = std::max(0.0, lane_sum<S>(sums.second) - total * total / n);
        }
    }

    void forward(const Maps<S>& m, const S* mean, const S* rate, const S* scale, const S* shift) const {
        for (int group = 0; group < m.groups; ++group)
            for (int c = 0; c < l.c; ++c)
                for (int y = 0; y < l.h; ++y)
                    for (int x = 0; x < l.w; ++x) {
                        V<S> value = (input(m, group, c, y, x) - mean[c]) * (rate[c] * scale[c]) + shift[c];
                        if (l.relu) value = positive<S>(value);
                        m.y[group * s.y.size() + s.y.at(c, y, x)] = value;
                    }
    }

    // Sums of the gradient, and of it times the normalised input.
    void gradient_sums(const Maps<S>& m, const S* mean, const S* rate, double* plain, double* weighted) const {
        for (int c = 0; c < l.c; ++c) {
            const Sums sums = each(m.groups, [&](int g, int y, int x, Sums& to) {
                const V<S> value = gradient(m, g, c, y, x);
                to.first += value;
                to.second += value * (input(m, g, c, y, x) - mean[c]);
            });
            plain[c] = lane_sum<S>(sums.first);
            weighted[c] = lane_sum<S>(sums.second) * rate[c];
        }
    }

    // `plain` and `weighted` are means over the batch here.
    void input_gradient(const Maps<S>& m, const V<S>* valid, const S* mean, const S* rate, const S* scale,
                        const S* plain, const S* weighted) const {
        for (int group = 0; group < m.groups; ++group)
            for (int c = 0; c < l.c; ++c)
                for (int y = 0; y < l.h; ++y)
                    for (int x = 0; x < l.w; ++x) {
                        const V<S> z = input(m, group, c, y, x), normal = (z - mean[c]) * rate[c];
                        V<S> g = (gradient(m, group, c, y, x) - plain[c] - normal * weighted[c]) * (scale[c] * rate[c]);
                        g *= valid[group];
                        if (s.masked) g = where_positive<S>(z, g);
                        m.gx[group * s.x.size() + s.x.at(c, y, x)] = g;
                    }
    }

    KnLayer l;

  private:
    struct Sums {
        V<S> first, second;
    };

    // Sums over every place of a channel, in four chains: an addition waits for the one before it.
    template <class F> Sums each(int groups, F add) const {
        Sums chains[4] = {};
        for (int group = 0; group < groups; ++group)
            for (int y = 0; y < l.h; ++y)
                for (int x = 0; x < l.w; x += 4)
#pragma GCC unroll 4
                    for (int i = 0; i < 4; ++i)
                        if (x + i < l.w) add(group, y, x + i, chains[i]);
        return {chains[0].first + chains[1].first + (chains[2].first + chains[3].first),
                chains[0].second + chains[1].second + (chains[2].second + chains[3].second)};
    }

    V<S> input(const Maps<S>& m, int group, int c, int y, int x) const {
        return m.x[group * s.x.size() + s.x.at(c, y, x)];
    }
    V<S> gradient(const Maps<S>& m, int group, int c, int y, int x) const {
        return m.gy[group * s.y.size() + s.y.at(c, y, x)];
    }

    LayerShapes s;
};

}  // namespace kn
