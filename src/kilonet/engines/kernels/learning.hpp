// What a batch costs, and what the parameters do about it.
#pragma once
#include <cmath>
#include <limits>

#include "maps.hpp"

namespace kn {

// Cross-entropy with label smoothing over some images of a group, and its gradient by the logits, divided by the batch.
// Source of the smoothing: Szegedy et al. 2016, the target is (1 - smoothing) at the label plus smoothing / K everywhere.
template <class S>
inline double cross_entropy(const V<S>* logits, const int64_t* labels, int count, int classes, int64_t batch,
                            double smoothing, V<S>* gradient) {
    double total = 0;
    const S target = S(1 - smoothing), rest = S(smoothing / classes);
    std::fill_n(gradient, classes, V<S>{});
    for (int lane = 0; lane < count; ++lane) {
        S top = logits[0][lane];
        for (int k = 1; k < classes; ++k) top = std::max(top, logits[k][lane]);
        S sum = 0, all = 0;
        for (int k = 0; k < classes; ++k) {
            const S power = std::exp(logits[k][lane] - top);
            gradient[k][lane] = power;
            sum += power;
            all += logits[k][lane] - top;
        }
        const S log_sum = std::log(sum), own = logits[labels[lane]][lane] - top - log_sum;
        total -= (1 - smoothing) * double(own) + smoothing / classes * double(all - classes * log_sum);
        for (int k = 0; k < classes; ++k)
            gradient[k][lane] = (gradient[k][lane] / sum - rest - (k == labels[lane] ? target : S(0))) / S(batch);
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
