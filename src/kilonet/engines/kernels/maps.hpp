// How the maps of a net lie in memory. A group is as many images as a vector has lanes.
//
// An activation lies as [channel][y][x][lane], with a frame of zeros as wide as the layers before and behind it need; the
// gradient by it lies likewise, and in its place where it can. Frames are zero from the beginning and never written.
// Who writes a gradient also applies the derivative of the ReLU that is part of the layer before.
#pragma once
#include <algorithm>
#include <cmath>

#include "interface.h"
#include "tiles.hpp"

namespace kn {

// How a map of c channels lies in memory.
struct Shape {
    int c, h, w, py, px;

    int height() const { return h + 2 * py; }
    int width() const { return w + 2 * px; }
    ptrdiff_t plane() const { return ptrdiff_t(height()) * width(); }
    ptrdiff_t size() const { return c * plane(); }
    ptrdiff_t at(int channel, int y, int x) const { return channel * plane() + ptrdiff_t(y + py) * width() + x + px; }
};

// The maps that a layer reads and writes, of all groups: activations, and gradients by them.
template <class S> struct Maps {
    const V<S>* x;
    V<S>* y;
    const V<S>* gy;
    V<S>* gx;     // null for the first layer; x itself where the layer needs none of x any more once it writes
    int groups;
};

struct LayerShapes {
    Shape x, y;
    bool masked;  // the layer before ends in a ReLU: gx stands only where x is above zero
};

// How far beyond the output of a convolution its way back reads, for a map of one dimension.
inline int reach(int size, int out, int kernel, int stride, int padding) {
    int need = 0;
    for (int i = 0; i < size; ++i)
        for (int k = (i + padding) % stride; k < kernel; k += stride) {
            const int o = (i + padding - k) / stride;
            need = std::max({need, -o, o - (out - 1)});
        }
    return need;
}

// The map in front of each layer and the one behind the last.
inline std::vector<Shape> lay_out(const std::vector<KnLayer>& plan) {
    std::vector<Shape> maps{{plan[0].c, plan[0].h, plan[0].w, 0, 0}};
    for (size_t i = 0; i < plan.size(); ++i) {
        const KnLayer& l = plan[i];
        maps.back().py = std::max(maps.back().py, l.ph), maps.back().px = std::max(maps.back().px, l.pw);
        const bool goes_back = i && l.kind == KN_CONV;
        maps.push_back({l.oc, l.oh, l.ow, goes_back ? reach(l.h, l.oh, l.kh, l.sh, l.ph) : 0,
                        goes_back ? reach(l.w, l.ow, l.kw, l.sw, l.pw) : 0});
    }
    return maps;
}

}  // namespace kn
