// What a batch costs, and what the parameters do about it.
#pragma once
#include <cmath>
#include <limits>
#include <type_traits>

#include "maps.hpp"

namespace kn {

// The exponential of numbers up to 0, NaN included: 2^k times a Taylor series within half an octave of 1.
template <class S> inline V<S> exponential(V<S> x) {
    constexpr bool wide = sizeof(S) == 8;
    constexpr int terms = wide ? 13 : 7, digits = wide ? 52 : 23, bias = wide ? 1023 : 127;
    constexpr S least = wide ? S(-708) : S(-87), log2e = S(1.44269504088896340736);
    constexpr S high = wide ? S(0x1.62e42fefa3800p-1) : S(0x1.62e4p-1), low = S(0x1.62e42fefa39efp-1 - double(high));
    constexpr S whole = wide ? S(0x1.8p52) : S(0x1.8p23);  // to add and take away: what is left is rounded
    typedef std::conditional_t<wide, int64_t, int32_t> Int __attribute__((vector_size(kBytes)));
    x = x < least ? splat<S>(least) : x;
    const V<S> k = (x * log2e + whole) - whole, r = (x - k * high) - k * low;
    V<S> power = splat<S>(1);
#pragma GCC unroll 16
    for (int n = terms; n > 0; --n) power = power * (r * S(1.0 / n)) + S(1);
    const Int exponent = (__builtin_convertvector(k, Int) + bias) << digits;
    return power * (V<S>)exponent;
}

// Cross-entropy with label smoothing over some images of a group, and its gradient by the logits, divided by the batch.
// Source of the smoothing: Szegedy et al. 2016, the target is (1 - smoothing) at the label plus smoothing / K everywhere.
template <class S>
inline double cross_entropy(const V<S>* logits, const int64_t* labels, int count, int classes, int64_t batch,
                            double smoothing, V<S>* gradient) {
    V<S> top = logits[0], sum{}, all{};
    for (int k = 1; k < classes; ++k) top = logits[k] > top ? logits[k] : top;
    for (int k = 0; k < classes; ++k) {
        gradient[k] = exponential<S>(logits[k] - top);
        sum += gradient[k];
        all += logits[k] - top;
    }
    const S target = S(1 - smoothing), rest = S(smoothing / classes);
    V<S> valid{};
    for (int lane = 0; lane < count; ++lane) valid[lane] = S(1) / S(batch);
    for (int k = 0; k < classes; ++k) gradient[k] = (gradient[k] / sum - rest) * valid;
    double total = 0;
    for (int lane = 0; lane < count; ++lane) {
        const int64_t label = labels[lane];
        const S log_sum = std::log(sum[lane]), own = logits[label][lane] - top[lane] - log_sum;
        total -= (1 - smoothing) * double(own) + smoothing / classes * double(all[lane] - classes * log_sum);
        gradient[label][lane] -= target / S(batch);
    }
    return total;
}

struct Score {
    double loss;  // cross-entropy, summed
    int right;    // how often the greatest logit, the first of equals, is the label's
};

template <class S> inline Score measured(const V<S>* logits, const int64_t* labels, int count, int classes) {
    Score score{};
    for (int lane = 0; lane < count; ++lane) {
        int top = 0;
        for (int k = 1; k < classes; ++k)
            if (logits[k][lane] > logits[top][lane]) top = k;
        double sum = 0;
        for (int k = 0; k < classes; ++k) sum += std::exp(double(logits[k][lane]) - logits[top][lane]);
        score.loss += std::log(sum) - (double(logits[labels[lane]][lane]) - logits[top][lane]);
        score.right += top == labels[lane];
    }
    return score;
}

// One step of a rule on some values, the operations and their order being those of `kilonet.optimizers`.
template <class S> struct Rule {
    int32_t rule;
    S lr, momentum, decay, beta1, beta2, eps, size, correction;

    Rule(const KnUpdate& u, double lr, int64_t step)
        : rule(u.rule), lr(S(lr)), momentum(S(u.momentum)),
          decay(u.rule == KN_ADAMW ? S(1 - lr * u.weight_decay) : S(u.weight_decay)), beta1(S(1 - u.beta1)),
          beta2(S(u.beta2)), eps(S(u.eps)), size(S(lr / (1 - std::pow(u.beta1, double(step))))),
          correction(S(std::sqrt(1 - std::pow(u.beta2, double(step))))), rest2(S(1 - u.beta2)),
          decays(u.weight_decay != 0) {}

    void operator()(int64_t n, S* __restrict p, const S* __restrict gradient, S* __restrict first,
                    S* __restrict second) const {
        if (rule == KN_SGD) return sgd(n, p, gradient, first);
        for (int64_t i = 0; i < n; ++i) {
            S g = gradient[i];
            if (rule == KN_ADAMW) p[i] *= decay;
            else g += decay * p[i];
            first[i] += beta1 * (g - first[i]);
            second[i] = beta2 * second[i] + rest2 * g * g;
            p[i] -= size * (first[i] / (std::sqrt(second[i]) / correction + eps));
        }
    }

  private:
    void sgd(int64_t n, S* __restrict p, const S* __restrict gradient, S* __restrict velocity) const {
        for (int64_t i = 0; i < n; ++i) {
            S g = gradient[i];
            if (decays) g += decay * p[i];
            if (velocity) g = velocity[i] = momentum * velocity[i] + g;
            p[i] -= lr * g;
        }
    }

    S rest2;
    bool decays;
};

}  // namespace kn
