#pragma once
#include "maps.hpp"

namespace kn {

// ReLU, pooling and flattening: nothing to learn.
template <class S> class Plain {
  public:
    Plain(const KnLayer& layer, const LayerShapes& shapes) : l(layer), s(shapes) {}

    void forward(const Maps<S>& m) const {
        for (int group = 0; group < m.groups; ++group)
            for (int c = 0; c < l.c; ++c) {
                if (pools()) pool(m, group, c);
                else
                    for (int y = 0; y < l.h; ++y)
                        for (int x = 0; x < l.w; ++x) {
                            const V<S> value = m.x[group * s.x.size() + s.x.at(c, y, x)];
                            m.y[group * s.y.size() + out(c, y, x)] = l.kind == KN_RELU ? positive<S>(value) : value;
                        }
            }
    }

    void input_gradient(const Maps<S>& m) const {
        for (int group = 0; group < m.groups; ++group)
            for (int c = 0; c < l.c; ++c) {
                if (pools()) spread(m, group, c);
                else
                    for (int y = 0; y < l.h; ++y)
                        for (int x = 0; x < l.w; ++x) {
                            const ptrdiff_t at = group * s.x.size() + s.x.at(c, y, x);
                            const V<S> g = m.gy[group * s.y.size() + out(c, y, x)];
                            m.gx[at] = s.masked || l.kind == KN_RELU ? where_positive<S>(m.x[at], g) : g;
                        }
            }
    }

  private:
    bool pools() const { return l.kind == KN_MAX_POOL || l.kind == KN_AVG_POOL; }

    // Flattening makes a channel of each element.
    ptrdiff_t out(int c, int y, int x) const {
        return l.kind == KN_FLATTEN ? s.y.at((c * l.h + y) * l.w + x, 0, 0) : s.y.at(c, y, x);
    }

    void pool(const Maps<S>& m, int group, int c) const {
        for (int y = 0; y < l.oh; ++y)
            for (int x = 0; x < l.ow; ++x)
                m.y[group * s.y.size() + s.y.at(c, y, x)] = pooled(m.x + window(group, c, y, x));
    }

    ptrdiff_t window(int group, int c, int y, int x) const {
        return group * s.x.size() + s.x.at(c, y * l.sh, x * l.sw);
    }

    V<S> pooled(const V<S>* from) const {
        const bool mean = l.kind == KN_AVG_POOL;
        V<S> value = mean ? V<S>{} : from[0];
        for (int ky = 0; ky < l.kh; ++ky, from += s.x.width())
            for (int kx = 0; kx < l.kw; ++kx)
                value = mean ? value + from[kx] : greater(value, from[kx]);
        return mean ? value / S(l.kh * l.kw) : value;
    }

    // The first of equals; NaN if either is.
    static V<S> greater(V<S> a, V<S> b) { return ((b <= a) | (a != a)) ? a : b; }

    // The gradient of a mean goes to all, that of a maximum to the first place that has it.
    void spread(const Maps<S>& m, int group, int c) const {
        const bool mean = l.kind == KN_AVG_POOL;
        for (int y = 0; y < l.h; ++y) std::fill_n(m.gx + group * s.x.size() + s.x.at(c, y, 0), l.w, V<S>{});
        for (int y = 0; y < l.oh; ++y)
            for (int x = 0; x < l.ow; ++x) {
                const ptrdiff_t at = window(group, c, y, x);
                const V<S>* from = m.x + at;
                V<S>* to = m.gx + at;
                V<S> g = m.gy[group * s.y.size() + s.y.at(c, y, x)];
                if (mean) g = g / S(l.kh * l.kw);
                const V<S> top = mean ? g : pooled(from);
                for (int ky = 0; ky < l.kh; ++ky, from += s.x.width(), to += s.x.width())
                    for (int kx = 0; kx < l.kw; ++kx) {
                        const auto here = from[kx] == top;
                        const V<S> share = mean ? g : (here ? g : V<S>{});
                        to[kx] += s.masked ? where_positive<S>(from[kx], share) : share;
                        if (!mean) g = here ? V<S>{} : g;
                    }
            }
    }

    KnLayer l;
    LayerShapes s;
};

}  // namespace kn
