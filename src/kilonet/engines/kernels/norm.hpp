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
            V<S> sum{}, square{};
            each(m.groups, [&](int g, int y, int x) {
                const V<S> d = (input(m, g, c, y, x) - pivot) * valid[g];
                sum += d;
                square += d * d;
            });
            const double total = lane_sum<S>(sum);
            mean[c] = pivot + total / n;
            squares[c] = std::max(0.0, lane_sum<S>(square) - total * total / n);
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
            V<S> sum{}, product{};
            each(m.groups, [&](int g, int y, int x) {
                const V<S> value = gradient(m, g, c, y, x);
                sum += value;
                product += value * (input(m, g, c, y, x) - mean[c]);
            });
            plain[c] = lane_sum<S>(sum);
            weighted[c] = lane_sum<S>(product) * rate[c];
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
    // Every place of a channel.
    template <class F> void each(int groups, F todo) const {
        for (int group = 0; group < groups; ++group)
            for (int y = 0; y < l.h; ++y)
                for (int x = 0; x < l.w; ++x) todo(group, y, x);
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
