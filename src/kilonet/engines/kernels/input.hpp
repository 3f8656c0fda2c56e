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
        down = spline(shape.h), across = spline(shape.w);
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
    // warp * (x, y, 1) plus, where the warp bends, the cubic B-spline over its control points.
    void warp(const KnImages& images, int64_t first, int count, V<S>* to) const {
        const int area = shape.h * shape.w, row = row_of(area);
        std::vector<S> warped(size_t(L<S>) * row);
        std::vector<uint8_t> framed(size_t(shape.h + 2) * (shape.w + 2));
        std::vector<int32_t> corners(framed.size());
        const int numbers = 3 + (images.bends ? KN_CONTROL * KN_CONTROL : 0);
        for (int c = 0; c < shape.c; ++c) {
            for (int lane = 0; lane < count; ++lane) {
                gather_corners(image(images, first + lane) + c * area, framed.data(), corners.data());
                sample(corners.data(), images.warps + (first + lane) * 2 * numbers, numbers,
                       warped.data() + size_t(lane) * row);
            }
            for (int begin = 0; begin < area; begin += L<S>) {
                V<S> pixels[L<S>];
                for (int lane = 0; lane < L<S>; ++lane)
                    std::memcpy(&pixels[lane], warped.data() + size_t(lane) * row + begin, sizeof pixels[lane]);
                transpose(pixels);
                for (int i = 0; i < std::min(L<S>, area - begin); ++i) put(to, c * area + begin + i, pixels[i]);
            }
        }
    }

    // Each pixel with its neighbours to the right, below, and below to the right, as the bytes of a word; the image has a
    // frame of one zero on each side.
    void gather_corners(const uint8_t* from, uint8_t* framed, int32_t* corners) const {
        const int side = shape.w + 2;
        for (int y = 0; y < shape.h; ++y) std::memcpy(framed + (y + 1) * side + 1, from + y * shape.w, size_t(shape.w));
        for (int i = 0; i < (shape.h + 1) * side - 1; ++i)
            corners[i] = int32_t(framed[i] | uint32_t(framed[i + 1]) << 8 | uint32_t(framed[i + side]) << 16 |
                                 uint32_t(framed[i + side + 1]) << 24);
    }

    // Pixels of a row as many at once as there are lanes; the last ones lie beyond it, and the next row overwrites them.
    // Whatever would be read from further out than the frame is read from the frame.
    void sample(const int32_t* corners, const float* warp, int numbers, S* to) const {
        using Words = typename Simd<S>::Words;
        const float *mx = warp, *my = warp + numbers;  // for x and for y, so many numbers each
        const bool bends = numbers > 3;
        const S cx = S(shape.w - 1) / 2, cy = S(shape.h - 1) / 2;
        V<S> lanes;
        for (int lane = 0; lane < L<S>; ++lane) lanes[lane] = S(lane);
        for (int y = 0; y < shape.h; ++y) {
            const S dy = y - cy, x0 = mx[1] * dy + mx[2] + cx + 1, y0 = my[1] * dy + my[2] + cy + 1;
            S bent_x[KN_CONTROL] = {}, bent_y[KN_CONTROL] = {};
            if (bends) bend_row(mx + 3, y, bent_x), bend_row(my + 3, y, bent_y);
            for (int x = 0; x < shape.w; x += L<S>) {
                const V<S> dx = lanes + (x - cx);
                V<S> px = S(mx[0]) * dx + x0, py = S(my[0]) * dx + y0;
                if (bends) px += bend(bent_x, x), py += bend(bent_y, x);
                const V<S> sx = between(px, S(shape.w + 1)), sy = between(py, S(shape.h + 1));
                const Words ix = whole(sx, shape.w), iy = whole(sy, shape.h), at = iy * (shape.w + 2) + ix;
                Words four;
                for (int lane = 0; lane < L<S>; ++lane) four[lane] = corners[at[lane]];
                const V<S> fx = sx - __builtin_convertvector(ix, V<S>), fy = sy - __builtin_convertvector(iy, V<S>);
                const V<S> a = byte_of<S>(four, 0), b = byte_of<S>(four, 1), c = byte_of<S>(four, 2), d = byte_of<S>(four, 3);
                const V<S> above = a + fx * (b - a), below = c + fx * (d - c), value = above + fy * (below - above);
                std::memcpy(to + y * shape.w + x, &value, sizeof value);
            }
        }
    }

    // What each column of control points moves in a row of pixels, and what they move together at a row's pixels from x.
    void bend_row(const float* points, int y, S* columns) const {
        for (int i = 0; i < KN_CONTROL; ++i)
            for (int j = 0; j < KN_CONTROL; ++j) columns[j] += down[size_t(i * row_of(shape.h) + y)] * S(points[i * KN_CONTROL + j]);
    }

    V<S> bend(const S* columns, int x) const {
        V<S> sum{}, share;
        for (int j = 0; j < KN_CONTROL; ++j) {
            std::memcpy(&share, &across[size_t(j * row_of(shape.w) + x)], sizeof share);
            sum += columns[j] * share;
        }
        return sum;
    }

    static int row_of(int pixels) { return (pixels / L<S> + 2) * L<S>; }

    // What each control point counts at each pixel of a side, (KN_CONTROL, row_of(pixels)): the uniform cubic B-spline,
    // the second control point on the first pixel and the last but one on the last.
    static std::vector<S> spline(int pixels) {
        std::vector<S> shares(size_t(KN_CONTROL) * row_of(pixels));
        for (int i = 0; i < KN_CONTROL; ++i)
            for (int x = 0; x < pixels; ++x) {
                const double at = pixels > 1 ? 1 + (KN_CONTROL - 3.0) * x / (pixels - 1) : (KN_CONTROL - 1) / 2.0;
                const double d = std::abs(at - i), far = std::max(0.0, 2 - d);
                shares[size_t(i * row_of(pixels) + x)] = S(d < 1 ? 2.0 / 3 - d * d + d * d * d / 2 : far * far * far / 6);
            }
        return shares;
    }

    static V<S> between(V<S> x, S most) {
        x = x < 0 ? V<S>{} : x;
        return x > most ? splat<S>(most) : x;
    }

    static typename Simd<S>::Words whole(V<S> x, int most) {
        const auto found = __builtin_convertvector(x, typename Simd<S>::Words);
        return found > most ? typename Simd<S>::Words{} + most : found;
    }

    Shape shape;
    std::vector<S> mean, rate, down, across;
    std::vector<std::pair<ptrdiff_t, int>> places;  // of each pixel in the map, and its channel
};

}  // namespace kn
