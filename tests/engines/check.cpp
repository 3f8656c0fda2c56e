// The kernels without Python: compiled together with kernels.cpp, for any processor, and run there or in an emulator.
//
// Prints the loss of each net, which is the same on all processors but for rounding. Says what does not hold, and ends
// with status 1, if anything does not. `check avx2` only asks whether the processor has these instructions: status 0.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

#include "interface.h"

namespace {

bool failed = false;

void expect(bool holds, const char* net, const char* what, double found) {
    if (holds) return;
    std::printf("%s: %s (%g)\n", net, what, found);
    failed = true;
}

struct Numbers {
    uint64_t state;
    uint32_t below(uint64_t n) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        return uint32_t((state >> 33) % n);
    }
    float operator()() { return float(below(1 << 24)) / (1 << 23) - 1; }  // from -1 to 1; a float holds it exactly
};

template <class S> using Arrays = std::vector<std::vector<S>>;

template <class S> std::vector<void*> pointers(Arrays<S>& arrays) {
    std::vector<void*> found;
    for (std::vector<S>& one : arrays) found.push_back(one.data());
    return found;
}

// Layers one behind the other, their parameters, and images to learn from.
struct Plan {
    const char* name;
    int channels, height, width, images, c = channels, h = height, w = width;
    Numbers random{uint64_t(images)};
    std::vector<KnLayer> layers{};
    Arrays<float> parameters{}, running{};
    std::vector<uint8_t> pixels{};
    std::vector<int64_t> labels{}, rows{};
    std::vector<float> warps{};
    bool bends = false;

    int parameter(int size, float around, float spread) {
        parameters.emplace_back();
        for (int i = 0; i < size; ++i) parameters.back().push_back(around + spread * random());
        return int(parameters.size()) - 1;
    }

    Plan& put(KnLayer l, int oc, int oh, int ow) {
        l.c = c, l.h = h, l.w = w, l.oc = c = oc, l.oh = h = oh, l.ow = w = ow;
        layers.push_back(l);
        return *this;
    }

    static KnLayer layer(int kind, bool relu = false) {
        KnLayer l{};
        l.kind = kind, l.relu = relu, l.kh = l.kw = l.sh = l.sw = l.groups = 1, l.weight = l.bias = l.norm = -1;
        return l;
    }

    Plan& conv(int oc, int kh, int kw, int sh, int sw, int ph, int pw, bool relu, bool bias, int groups = 1) {
        KnLayer l = layer(KN_CONV, relu);
        const int inputs = c / groups * kh * kw;
        l.kh = kh, l.kw = kw, l.sh = sh, l.sw = sw, l.ph = ph, l.pw = pw, l.out_stride = inputs, l.in_stride = 1;
        l.groups = groups;
        l.weight = parameter(oc * inputs, 0, 1.5f / std::sqrt(float(inputs)));
        if (bias) l.bias = parameter(oc, 0, 0.5f);
        return put(l, oc, (h + 2 * ph - kh) / sh + 1, (w + 2 * pw - kw) / sw + 1);
    }

    Plan& norm() {
        KnLayer l = layer(KN_NORM, true);
        l.norm = int(running.size()) / 2, l.eps = 1e-5, l.momentum = 0.1;
        l.weight = parameter(c, 1, 0.5f), l.bias = parameter(c, 0, 0.5f);
        running.emplace_back(c, 0.25f), running.emplace_back(c, 0.75f);
        return put(l, c, h, w);
    }

    Plan& pool(int kind, int kernel, int stride) {
        KnLayer l = layer(kind);
        l.kh = l.kw = kernel, l.sh = l.sw = stride;
        return put(l, c, (h - kernel) / stride + 1, (w - kernel) / stride + 1);
    }

    Plan& relu() { return put(layer(KN_RELU), c, h, w); }

    // Flat; the first layer reads the image itself as flat. Weights lie as (inputs, outputs) if they are `turned`.
    Plan& linear(int outputs, bool turned = false) {
        const int inputs = c * h * w;
        if (!layers.empty() && h * w > 1) put(layer(KN_FLATTEN), inputs, 1, 1);
        c = inputs, h = w = 1;
        conv(outputs, 1, 1, 1, 1, 0, 0, false, true);
        if (turned) layers.back().out_stride = 1, layers.back().in_stride = outputs;
        return *this;
    }

    // Images and labels, and the order of a training that sees them all several times and then some of them. A warp's
    // random parts are scaled by powers of two: so they are the same whether or not a processor fuses the addition.
    Plan& done(bool warped = false, bool bent = false) {
        bends = bent;
        const int numbers = bends ? 3 + KN_CONTROL * KN_CONTROL : 3;
        for (int i = 0; i < images * channels * height * width; ++i) pixels.push_back(uint8_t(random.below(256)));
        for (int i = 0; i < images; ++i) labels.push_back(random.below(uint64_t(c)));
        for (int i = 0; i < 10 * images + 3; ++i) rows.push_back(int64_t(i) * 5 % images);
        for (size_t i = 0; warped && i < rows.size(); ++i)
            for (int row = 0; row < 2; ++row)
                for (int k = 0; k < numbers; ++k) warps.push_back(float(k == row) + (k >= 2 ? 2 : 0.25f) * random());
        return *this;
    }

    KnImages view(size_t n) const {
        return {pixels.data(), labels.data(), rows.data(), warps.empty() ? nullptr : warps.data(), int64_t(n), bends};
    }
};

template <class S> Arrays<S> converted(const Arrays<float>& arrays) {
    Arrays<S> found;
    for (const std::vector<float>& one : arrays) found.emplace_back(one.begin(), one.end());
    return found;
}

template <class S> struct Net {
    const Plan& plan;
    Arrays<S> parameters = converted<S>(plan.parameters), running = converted<S>(plan.running);
    Arrays<S> gradients = parameters, first, second;
    void* handle = nullptr;

    explicit Net(const Plan& plan) : plan(plan) {
        const std::vector<double> mean(size_t(plan.channels), 120), std(size_t(plan.channels), 80);
        std::vector<int64_t> sizes;
        for (std::vector<S>& one : parameters) {
            sizes.push_back(int64_t(one.size()));
            first.emplace_back(one.size()), second.emplace_back(one.size());
        }
        kn_create(&handle, sizeof(S) == sizeof(double), plan.layers.data(), int(plan.layers.size()),
                  pointers(parameters).data(), sizes.data(), int(sizes.size()), pointers(running).data(),
                  int(running.size()) / 2, mean.data(), std.data(), plan.channels, plan.height, plan.width);
    }
    Net(const Net&) = delete;
    ~Net() { kn_free(handle); }

    double loss() {
        double found = 0;
        const KnImages images = plan.view(size_t(plan.images));
        kn_gradients(handle, &images, 0.1, pointers(gradients).data(), &found, 2);
        return found;
    }

    std::vector<double> train(int threads) {
        const KnImages images = plan.view(plan.rows.size());
        const std::vector<void*> means = pointers(first), squares = pointers(second);
        const KnUpdate update{KN_ADAM, 0, 0, 0.9, 0.999, 1e-8, 0, means.data(), squares.data()};
        const std::vector<double> rates(11, 0.01);
        std::vector<double> losses(rates.size());
        int64_t steps = 0;
        kn_train(handle, &images, plan.images, rates.data(), &update, 0, losses.data(), &steps, threads);
        losses.resize(size_t(steps));
        return losses;
    }

    std::vector<S> logits(const uint8_t* pixels, int n) {
        std::vector<S> found(size_t(n * plan.c));
        const KnImages images{pixels, nullptr, nullptr, nullptr, n, 0};
        kn_logits(handle, &images, found.data(), 2);
        return found;
    }
};

// Gradients against central differences of the loss. Where the sides differ, a kink lies between: nothing to compare.
void check_gradients(const Plan& plan) {
    Net<double> net(plan);
    const double step = 1e-6, loss = net.loss();
    std::printf("%s: %.12f\n", plan.name, loss);
    const Arrays<double> gradients = net.gradients;
    double largest = 0, worst = 0;
    for (const std::vector<double>& one : gradients)
        for (double g : one) largest = std::max(largest, std::abs(g));
    Numbers random{1};
    int probes = 0, kinks = 0;
    for (size_t i = 0; i < gradients.size(); ++i)
        for (int k = 0; k < 6; ++k, ++probes) {
            const size_t at = random.below(gradients[i].size());
            double& value = net.parameters[i][at];
            const double before = value, g = gradients[i][at], scale = std::max(std::abs(g), largest / 100);
            value = before + step;
            const double up = (net.loss() - loss) / step;
            value = before - step;
            const double down = (loss - net.loss()) / step;
            value = before;
            if (std::abs(up - down) > 1e-3 * scale) ++kinks;
            else worst = std::max(worst, std::abs((up + down) / 2 - g) / scale);
        }
    expect(worst < 1e-5, plan.name, "gradients differ from differences of the loss", worst);
    expect(kinks * 4 < probes, plan.name, "differences of the loss are too rough to compare", kinks);
}

void check_precision(const Plan& plan) {
    Net<float> coarse(plan);
    Net<double> fine(plan);
    const double loss = fine.loss(), off = std::abs(coarse.loss() / loss - 1);
    expect(off < 1e-5, plan.name, "the loss in float differs from that in double", off);
    double difference = 0, whole = 0;
    for (size_t i = 0; i < fine.gradients.size(); ++i)
        for (size_t k = 0; k < fine.gradients[i].size(); ++k) {
            difference += std::pow(coarse.gradients[i][k] - fine.gradients[i][k], 2);
            whole += std::pow(fine.gradients[i][k], 2);
        }
    const double relative = std::sqrt(difference / whole);
    expect(relative < 1e-4, plan.name, "gradients in float differ from those in double", relative);
}

template <class S> bool same(const std::vector<S>& a, const std::vector<S>& b) {
    return a.size() == b.size() && !std::memcmp(a.data(), b.data(), a.size() * sizeof(S));
}

template <class S> void check_training(const Plan& plan) {
    Net<S> one(plan);
    const std::vector<double> losses = one.train(1);
    expect(losses.size() == 11, plan.name, "training ended early", double(losses.size()));
    expect(losses.size() > 9 && losses[9] < 0.9 * losses[0], plan.name, "training does not lower the loss", losses[0]);
    for (int threads : {2, 3}) {
        Net<S> several(plan);
        bool equal = same(several.train(threads), losses);
        for (auto part : {&Net<S>::parameters, &Net<S>::running, &Net<S>::first, &Net<S>::second})
            for (size_t i = 0; i < (one.*part).size(); ++i) equal = equal && same((one.*part)[i], (several.*part)[i]);
        expect(equal, plan.name, "training depends on the number of threads", threads);
    }
}

template <class S> void check_logits(const Plan& plan) {
    Net<S> net(plan);
    const std::vector<S> together = net.logits(plan.pixels.data(), plan.images);
    const size_t size = plan.pixels.size() / size_t(plan.images), classes = size_t(plan.c);
    for (size_t i = 0; i < size_t(plan.images); ++i) {
        const std::vector<S> alone = net.logits(plan.pixels.data() + i * size, 1);
        const std::vector<S> within(together.begin() + i * classes, together.begin() + (i + 1) * classes);
        expect(same(alone, within), plan.name, "logits of an image depend on the others", double(i));
    }
}

}  // namespace

int main(int argc, char** argv) {
    if (argc > 1) return !kn_supports(argv[1]);
    Plan average{"average", 2, 9, 11, 37}, norms{"norms", 1, 10, 7, 21}, linear{"linear", 3, 5, 5, 13};
    Plan many{"many", 1, 8, 8, 301}, grouped{"grouped", 1, 9, 8, 35};
    average.conv(5, 3, 3, 1, 1, 1, 1, true, true).conv(7, 3, 2, 2, 2, 0, 1, false, true);
    average.pool(KN_AVG_POOL, 2, 2).relu().linear(4).done(true, true);
    norms.conv(6, 3, 3, 1, 1, 0, 0, false, false).norm().pool(KN_MAX_POOL, 2, 1);
    norms.conv(9, 2, 3, 1, 1, 1, 1, false, true).norm().linear(3).done();
    linear.linear(10, true).done();
    many.conv(3, 5, 5, 3, 2, 2, 1, false, true).norm().pool(KN_MAX_POOL, 2, 2).linear(5).done();
    grouped.conv(6, 3, 3, 1, 1, 1, 1, false, true).conv(6, 5, 3, 2, 1, 2, 1, false, false, 6).norm();
    grouped.conv(8, 1, 1, 1, 1, 0, 0, true, false, 2).linear(3).done(true);
    for (const Plan& plan : {average, norms, linear, many, grouped}) {
        check_gradients(plan);
        check_precision(plan);
        check_training<float>(plan);
        check_training<double>(plan);
        check_logits<float>(plan);
        check_logits<double>(plan);
    }
    return failed;
}
