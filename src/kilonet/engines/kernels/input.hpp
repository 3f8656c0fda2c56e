// Raw images into the first map: gathered by row, warped where asked for, normalised, an image a lane.
#pragma once
#include "maps.hpp"

namespace kn {

template <class S> class Input {
  public:
    Input(Shape shape, std::vector<S> mean, const std::vector<S>& std) : shape(shape), mean(std::move(mean)) {
        for (S one : std) rate.push_back(S(1) / one);
        for (int c = 0; c < shape.c; ++c)
            for (int y = 0; y < shape.h; ++y)
                for (int x = 0; x < shape.w; ++x) places.push_back({shape.at(c, y, x), c});
    }

    // `to` is a map of one group; images from the `first` of those asked for, as many as there are up to the lanes.
    void load(const KnImages& images, int64_t first, int count, V<S>* to) const {
        if (images.warps)
            warp(images, first, count, to);
        else
            copy(images, first, count, to);
    }

  private:
    const uint8_t* image(const KnImages& images, int64_t i) const {
        const int64_t row = images.rows ? images.rows[i] : i;
        return images.pixels + row * shape.c * shape.h * shape.w;
    }

    void put(V<S>* to, int pixel, V<S> value) const {
        const auto [place, c] = places[size_t(pixel)];
        to[place] = (value - mean[size_t(c)]) * rate[size_t(c)];
    }

    // Four pixels of each image make a word; words are transposed, so that a vector has the same pixels of all images.
    void copy(const KnImages& images, int64_t first, int count, V<S>* to) const {
        constexpr int block = 4 * L<S>;
        const int pixels = shape.c * shape.h * shape.w;
        const uint8_t* from[L<S>];
        for (int lane = 0; lane < count; ++lane) from[lane] = image(images, first + lane);
        for (int begin = 0; begin < pixels; begin += block) {
            const int some = std::min(block, pixels - begin);
            typename Simd<S>::Words words[L<S>] = {};
            for (int lane = 0; lane < count; ++lane)
                if (some == block) std::memcpy(&words[lane], from[lane] + begin, block);
                else std::memcpy(&words[lane], from[lane] + begin, size_t(some));
            transpose(words);
            for (int i = 0; i < some; ++i) put(to, begin + i, byte_of<S>(words[i / 4], i % 4));
        }
    }

    // Bilinear, with zeros around the image: the result's pixel (x, y), measured from the centre, is the source's at
    // warp * (x, y, 1).
    void warp(const KnImages& images, int64_t first, int count, V<S>* to) const {
        const int area = shape.h * shape.w, side = shape.w + 2;
        std::vector<S> warped(size_t(L<S>) * area), framed(size_t(shape.h + 2) * side);
        for (int c = 0; c < shape.c; ++c) {
            std::fill(warped.begin(), warped.end(), S(0));
            for (int lane = 0; lane < count; ++lane) {
                const uint8_t* from = image(images, first + lane) + c * area;
                for (int y = 0; y < shape.h; ++y)
                    for (int x = 0; x < shape.w; ++x) framed[size_t((y + 1) * side + x + 1)] = from[y * shape.w + x];
                sample(framed.data(), images.warps + (first + lane) * 6, warped.data() + size_t(lane) * area);
            }
            for (int i = 0; i < area; ++i) {
                V<S> value{};
                for (int lane = 0; lane < count; ++lane) value[lane] = warped[size_t(lane) * area + i];
                put(to, c * area + i, value);
            }
        }
    }

    // `from` has a frame of one zero on each side; whatever lies further out is moved onto it.
    void sample(const S* from, const float* m, S* to) const {
        const S right = S(shape.w), bottom = S(shape.h), cx = S(shape.w - 1) / 2, cy = S(shape.h - 1) / 2;
        const int side = shape.w + 2;
        for (int y = 0; y < shape.h; ++y) {
            const S dy = y - cy, x0 = m[1] * dy + m[2] + cx, y0 = m[4] * dy + m[5] + cy;
            for (int x = 0; x < shape.w; ++x) {
                const S dx = x - cx;
                const S sx = std::min(std::max(m[0] * dx + x0, S(-1)), right);
                const S sy = std::min(std::max(m[3] * dx + y0, S(-1)), bottom);
                const int ix = std::min(int(sx + 1), shape.w), iy = std::min(int(sy + 1), shape.h);
                const S fx = sx + 1 - ix, fy = sy + 1 - iy;
                const S* at = from + iy * side + ix;
                const S above = at[0] + fx * (at[1] - at[0]), below = at[side] + fx * (at[side + 1] - at[side]);
                to[y * shape.w + x] = above + fy * (below - above);
            }
        }
    }

    Shape shape;
    std::vector<S> mean, rate;
    std::vector<std::pair<ptrdiff_t, int>> places;  // of each pixel in the map, and its channel
};

}  // namespace kn
