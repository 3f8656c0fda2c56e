// Convolutions, and linear layers, which are convolutions over single values.
#pragma once
#include "maps.hpp"

namespace kn {

// Taps with the place of their weight for the first channel, and the weights as `correlate` reads them.
template <class S> struct Taps {
    std::vector<int32_t> offsets;
    std::vector<int64_t> places;
    std::vector<S> packed;

    void add(ptrdiff_t offset, int64_t place) {
        offsets.push_back(int32_t(offset));
        places.push_back(place);
    }

    void pack(const S* weights, const std::vector<Tile>& channels, int64_t stride) {
        packed.resize(offsets.size() * size_t(channels.empty() ? 0 : channels.back().first + channels.back().count));
        S* to = packed.data();
        for (const Tile& tile : channels)
            for (int64_t place : places)
                for (int c = 0; c < tile.count; ++c) *to++ = weights[place + (tile.first + c) * stride];
    }
};

// A convolution of one group of channels: `layer` counts that group's, `shapes` are the whole maps.
// Taps lie in the order of their rows, so that those which would read beyond the map's upper or lower edge can be left out.
template <class S> class Convolution {
  public:
    Convolution(const KnLayer& layer, const LayerShapes& shapes)
        : l(layer), s(shapes), columns(tiles(l.ow, positions(l.oc))), outputs(tiles(l.oc, kSums / columns[0].count)),
          taps(tiles(l.kw == 1 ? l.c : l.kw, l.kw == 1 ? kSums / kOuterChannels : kTaps)),
          outer_outputs(tiles(l.oc, std::min(kOuterChannels, kSums / taps[0].count))) {
        for (int ky = 0; ky < l.kh; ++ky)
            for (int c = 0; c < l.c; ++c)
                for (int kx = 0; kx < l.kw; ++kx)
                    forward_taps.add(c * s.x.plane() + ky * s.x.width() + kx, weight_place(0, c, ky, kx));
        for (int ry = 0; ry < l.sh; ++ry)
            for (int rx = 0; rx < l.sw; ++rx) add_class(ry, rx);
        int widest = 1;
        for (const Class& one : classes) widest = std::max(widest, one.columns[0].count);
        inputs = tiles(l.c, kSums / widest);
    }

    void pack(const S* weights, bool backward_too) {
        forward_taps.pack(weights, outputs, l.out_stride);
        if (backward_too)
            for (Class& one : classes) one.taps.pack(weights, inputs, int64_t(l.kh) * l.kw * l.in_stride);
    }

    void forward(const Maps<S>& m, const S* bias) const {
        Correlation<S> job{};
        job.x_step = l.sw, job.relu = l.relu, job.step = 1, job.plane = s.y.plane();
        for (int group = 0; group < m.groups; ++group)
            for (int y = 0; y < l.oh; ++y) {
                const int top = y * l.sh - l.ph, from = std::max(0, -top), to = std::min(l.kh, l.h - top);
                for (const Tile& channels : outputs) {
                    choose(job, forward_taps, channels, from, to, l.c * l.kw);
                    job.bias = bias ? bias + channels.first : nullptr;
                    for (const Tile& xs : columns) {
                        job.x = m.x + group * s.x.size() + s.x.at(0, top, xs.first * l.sw - l.pw);
                        job.out = m.y + group * s.y.size() + s.y.at(channels.first, y, xs.first);
                        run(job, xs.count, channels.count);
                    }
                }
            }
    }

    void input_gradient(const Maps<S>& m) const {
        Correlation<S> job{};
        job.x_step = 1, job.step = l.sw, job.plane = s.x.plane(), job.mask_plane = s.x.plane();
        for (int group = 0; group < m.groups; ++group)
            for (const Class& one : classes)
                for (int i = 0; i < one.rows; ++i) {
                    const int y = one.y + i * l.sh, bottom = one.oy + i;
                    const int from = std::max(0, bottom - (l.oh - 1)), to = std::min(one.height, bottom + 1);
                    for (const Tile& channels : inputs) {
                        choose(job, one.taps, channels, from, to, l.oc * one.width);
                        for (const Tile& xs : one.columns) {
                            const int x = one.x + xs.first * l.sw;
                            job.x = m.gy + group * s.y.size() + s.y.at(0, bottom, one.ox + xs.first);
                            job.out = m.gx + group * s.x.size() + s.x.at(channels.first, y, x);
                            if (s.masked) job.mask = m.x + group * s.x.size() + s.x.at(channels.first, y, x);
                            run(job, xs.count, channels.count);
                        }
                    }
                }
    }

    // Gradients of the weights and the bias, summed over the groups; `gradient` is laid out as the weights are.
    void weight_gradient(const Maps<S>& m, S* gradient, S* bias) const {
        if (s.x.plane() == 1 && l.kh * l.kw == 1) dense_gradient(m, gradient);
        else if (l.c == 1 && l.oc == 1) alone_gradient(m, gradient);
        else map_gradient(m, gradient);
        if (bias) bias_gradient(m, bias);
    }

  private:
    // The positions of the input that are a whole number of strides apart meet the same taps.
    struct Class {
        int y, x, oy, ox, rows, height, width;
        std::vector<Tile> columns;
        Taps<S> taps;
    };

    void add_class(int ry, int rx) {
        Class one{};
        one.y = first(ry, l.ph, l.sh), one.x = first(rx, l.pw, l.sw);
        if (one.y >= l.h || one.x >= l.w) return;
        one.oy = (one.y + l.ph - ry) / l.sh, one.ox = (one.x + l.pw - rx) / l.sw;
        one.rows = (l.h - 1 - one.y) / l.sh + 1;
        one.height = std::max(0, (l.kh - 1 - ry + l.sh) / l.sh), one.width = std::max(0, (l.kw - 1 - rx + l.sw) / l.sw);
        one.columns = tiles((l.w - 1 - one.x) / l.sw + 1, positions(l.c));
        for (int ky = ry; ky < l.kh; ky += l.sh)
            for (int o = 0; o < l.oc; ++o)
                for (int kx = rx; kx < l.kw; kx += l.sw)
                    one.taps.add(o * s.y.plane() - ptrdiff_t(ky / l.sh) * s.y.width() - kx / l.sw,
                                 weight_place(o, 0, ky, kx));
        classes.push_back(std::move(one));
    }

    static int positions(int channels) { return channels == 1 ? kAlone : kPositions; }

    // The first position whose taps begin with the kernel's element `residue`.
    static int first(int residue, int padding, int stride) {
        return ((residue - padding) % stride + stride) % stride;
    }

    // The taps of some rows of the kernel, `a_row` of them a row, with the weights of some channels.
    static void choose(Correlation<S>& job, const Taps<S>& taps, const Tile& channels, int from, int to, int a_row) {
        job.offsets = taps.offsets.data() + from * a_row, job.taps = std::max(0, to - from) * a_row;
        job.weights = taps.packed.data() + ptrdiff_t(channels.first) * ptrdiff_t(taps.offsets.size()) +
                      ptrdiff_t(from) * a_row * channels.count;
    }

    int64_t weight_place(int out, int c, int ky, int kx) const {
        return out * l.out_stride + ((int64_t(c) * l.kh + ky) * l.kw + kx) * l.in_stride;
    }

    // A tile's taps lie side by side in a row of the kernel; where that has one column, in one place of several channels.
    void map_gradient(const Maps<S>& m, S* gradient) const {
        S sums[kTaps * kOuterChannels];
        const bool over_channels = l.kw == 1;
        const int64_t tap = (over_channels ? l.kh : 1) * l.in_stride;
        Outer<S> job = gradient_job(m);
        job.x_tap = over_channels ? s.x.plane() : 1, job.sums = sums;
        for (const Tile& channels : outer_outputs)
            for (int c = 0; c < (over_channels ? 1 : l.c); ++c)
                for (int ky = 0; ky < l.kh; ++ky) {
                    // The rows whose tap lies in the map: 0 <= y * sh - ph + ky < h.
                    const int from = std::max(0, (l.ph - ky + l.sh - 1) / l.sh);
                    const int to = std::min(l.oh, (l.h - 1 + l.ph - ky) / l.sh + 1);
                    job.rows = l.h - 1 + l.ph < ky ? 0 : std::max(0, to - from);
                    job.g = m.gy + s.y.at(channels.first, from, 0);
                    for (const Tile& some : taps) {
                        const int in = over_channels ? some.first : c, kx = over_channels ? 0 : some.first;
                        job.x = m.x + s.x.at(in, from * l.sh - l.ph + ky, kx - l.pw);
                        run(job, some.count, channels.count);
                        S* to = gradient + weight_place(channels.first, in, ky, kx);
                        for (int o = 0; o < channels.count; ++o)
                            for (int t = 0; t < some.count; ++t)
                                to[o * l.out_stride + t * tap] = sums[t * channels.count + o];
                    }
                }
    }

    // Of one channel by one.
    void alone_gradient(const Maps<S>& m, S* gradient) const {
        S sums[kAloneRows * kAloneColumns];
        Outer<S> job = gradient_job(m);
        job.x_tap = 1, job.x_below = s.x.width(), job.rows = l.oh, job.g = m.gy + s.y.at(0, 0, 0), job.sums = sums;
        for (const Tile& rows : tiles(l.kh, kAloneRows))
            for (const Tile& some : tiles(l.kw, kAloneColumns)) {
                job.x = m.x + s.x.at(0, rows.first - l.ph, some.first - l.pw);
                run_alone(job, rows.count, some.count);
                for (int i = 0; i < rows.count * some.count; ++i)
                    gradient[weight_place(0, 0, rows.first + i / some.count, some.first + i % some.count)] = sums[i];
            }
    }

    Outer<S> gradient_job(const Maps<S>& m) const {
        Outer<S> job{};
        job.x_group = s.x.size(), job.x_row = ptrdiff_t(l.sh) * s.x.width(), job.x_step = l.sw;
        job.g_group = s.y.size(), job.g_row = s.y.width(), job.g_plane = s.y.plane();
        job.groups = m.groups, job.columns = l.ow;
        return job;
    }

    // Of a layer over single values.
    void dense_gradient(const Maps<S>& m, S* gradient) const {
        V<S> sums[kDense];
        for (const Tile& channels : tiles(l.oc, kDense))
            for (int from = 0; from < l.c; from += L<S>) {
                const int some = std::min(L<S>, l.c - from);
                std::fill_n(sums, channels.count, V<S>{});
                for (int group = 0; group < m.groups; ++group)
                    run_dense<S>(m.x + group * s.x.size() + from, some,
                                 m.gy + group * s.y.size() + s.y.at(channels.first, 0, 0), s.y.plane(),
                                 channels.count, sums);
                for (int o = 0; o < channels.count; ++o) {
                    S* to = gradient + weight_place(channels.first + o, from, 0, 0);
                    if (some == L<S> && l.in_stride == 1) std::memcpy(to, &sums[o], sizeof sums[o]);
                    else
                        for (int i = 0; i < some; ++i) to[i * l.in_stride] = sums[o][i];
                }
            }
    }

    // A bias is the weight of an input that is always one.
    void bias_gradient(const Maps<S>& m, S* gradient) const {
        const V<S> one = splat<S>(1);
        Outer<S> job{};
        job.x = &one;
        job.g_group = s.y.size(), job.g_row = s.y.width(), job.g_plane = s.y.plane();
        job.groups = m.groups, job.rows = l.oh, job.columns = l.ow;
        for (const Tile& channels : outer_outputs) {
            job.g = m.gy + s.y.at(channels.first, 0, 0), job.sums = gradient + channels.first;
            run(job, 1, channels.count);
        }
    }

    KnLayer l;
    LayerShapes s;
    std::vector<Tile> columns, outputs, taps, outer_outputs, inputs;
    Taps<S> forward_taps;
    std::vector<Class> classes;
};

// The groups of a convolution, one after another. Most layers have one; a depthwise convolution has one for each channel.
template <class S> class Convolutions {
  public:
    Convolutions(const KnLayer& layer, const LayerShapes& shapes) : s(shapes), l(layer) {
        l.c /= l.groups, l.oc /= l.groups;
        for (int i = 0; i < l.groups; ++i) groups.emplace_back(l, s);
    }

    void pack(const S* weights, bool backward_too) {
        for (int i = 0; i < l.groups; ++i) groups[size_t(i)].pack(weights + place(i), backward_too);
    }

    void forward(const Maps<S>& m, const S* bias) const {
        for (int i = 0; i < l.groups; ++i) groups[size_t(i)].forward(of(m, i), bias ? bias + i * l.oc : nullptr);
    }

    void input_gradient(const Maps<S>& m) const {
        for (int i = 0; i < l.groups; ++i) groups[size_t(i)].input_gradient(of(m, i));
    }

    void weight_gradient(const Maps<S>& m, S* gradient, S* bias) const {
        for (int i = 0; i < l.groups; ++i)
            groups[size_t(i)].weight_gradient(of(m, i), gradient + place(i), bias ? bias + i * l.oc : nullptr);
    }

  private:
    int64_t place(int group) const { return int64_t(group) * l.oc * l.out_stride; }

    Maps<S> of(const Maps<S>& m, int group) const {
        const ptrdiff_t x = group * l.c * s.x.plane(), y = group * l.oc * s.y.plane();
        return {m.x + x, m.y + y, m.gy ? m.gy + y : nullptr, m.gx ? m.gx + x : nullptr, m.groups};
    }

    LayerShapes s;
    KnLayer l;  // of a group
    std::vector<Convolution<S>> groups;
};

}  // namespace kn
