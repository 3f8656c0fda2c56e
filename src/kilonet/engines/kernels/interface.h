// What crosses between Python and the kernels: plain C, no library's types.
#pragma once
#include <cstdint>

#define KN_API __attribute__((visibility("default")))

extern "C" {

enum KnKind : int32_t { KN_CONV, KN_NORM, KN_RELU, KN_MAX_POOL, KN_AVG_POOL, KN_FLATTEN };

// A layer. A linear one is a convolution over 1x1 images of as many channels as it has inputs.
struct KnLayer {
    int32_t kind;
    int32_t relu;                 // whether a ReLU follows, done in the same pass (CONV, NORM)
    int32_t c, h, w;              // an input: channels, height, width
    int32_t oc, oh, ow;           // an output
    int32_t kh, kw, sh, sw;       // kernel and stride (CONV, pools)
    int32_t ph, pw;               // padding (CONV)
    int32_t groups;               // of channels, each convolved by itself (CONV)
    int32_t weight, bias;         // which parameters, -1 for none; scale and shift of NORM
    int32_t norm;                 // which running mean and variance (NORM)
    int64_t out_stride, in_stride;// where a weight lies: out * out_stride + (channel, y, x) * in_stride
    double eps, momentum;         // of NORM
};

enum KnRule : int32_t { KN_SGD, KN_ADAM, KN_ADAMW };

struct KnUpdate {
    int32_t rule;
    double momentum, weight_decay, beta1, beta2, eps;
    int64_t steps;                // done before
    void* const* first;           // a moment for each parameter: Adam's mean, or the velocity; null without
    void* const* second;          // Adam's mean of squares
};

constexpr int32_t KN_CONTROL = 6;  // control points a side of a warp that bends

// Images to learn from or to look at, all in memory.
struct KnImages {
    const uint8_t* pixels;        // (N, c, h, w)
    const int64_t* labels;        // (N,), or null
    const int64_t* rows;          // (n,): which of them, in their order; null for the first n
    const float* warps;           // (n, 2, 3), or as `bends` says: from a pixel of the result to one of the source; or null
    int64_t n;
    int32_t bends;                // whether a warp has KN_CONTROL * KN_CONTROL control points behind the three of each row
};

// All functions that return an int give 0, or 1 if memory ran out.
KN_API int kn_create(void** net, int is_double, const KnLayer* layers, int n_layers, void* const* parameters,
              const int64_t* sizes, int n_parameters, void* const* running, int n_norms, const double* mean,
              const double* std, int channels, int height, int width);
KN_API int kn_train(void* net, const KnImages* images, int64_t batch, const double* rates, const KnUpdate* update,
             double smoothing, double* losses, int64_t* done, int threads);
KN_API int kn_gradients(void* net, const KnImages* images, double smoothing, void* const* gradients, double* loss,
                 int threads);
// The mean cross-entropy, summed in double, and how many images have their greatest logit at their label.
KN_API int kn_measure(void* net, const KnImages* images, double* loss, int64_t* right, int threads);
KN_API int kn_logits(void* net, const KnImages* images, void* logits, int threads);
KN_API void kn_free(void* net);
KN_API double kn_peak(int threads, double seconds);
KN_API int kn_supports(const char* feature);
}
