// How the maps of a net lie in memory. A group is as many images as a vector has lanes.
//
// An activation lies as [channel][y][x][lane], with a frame of zeros as wide as the layer that reads it needs; a gradient
// likewise, with the frame that its convolution's way back needs. Frames are zero from the beginning and never written.
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
    V<S>* gx;     // null for the first layer
    int groups;
};

struct LayerShapes {
    Shape x, y, gy, gx;
    bool masked;  // the layer before ends in a ReLU: gx stands only where x is above zero
};

}  // namespace kn
