// The interface, for one set of instructions: the compiler's flags choose which.
#include "net.hpp"
#include "peak.hpp"

using namespace kn;

namespace {

template <class F> int guarded(F work) {
    try {
        work();
        return 0;
    } catch (const std::bad_alloc&) {
        return 1;
    }
}

}  // namespace

extern "C" {

int kn_create(void** net, int is_double, const KnLayer* layers, int n_layers, void* const* parameters,
              const int64_t* sizes, int n_parameters, void* const* running, int n_norms, const double* mean,
              const double* std, int channels, int height, int width) {
    const Shape image{channels, height, width, 0, 0};
    return guarded([&] {
        AnyNet* made;
        if (is_double)
            made = new Net<double>(layers, n_layers, parameters, sizes, n_parameters, running, n_norms, mean, std, image);
        else
            made = new Net<float>(layers, n_layers, parameters, sizes, n_parameters, running, n_norms, mean, std, image);
        *net = made;
    });
}

int kn_train(void* net, const KnImages* images, int64_t batch, const double* rates, const KnUpdate* update,
             double smoothing, double* losses, int64_t* done, int threads) {
    return guarded([&] {
        *done = static_cast<AnyNet*>(net)->train(*images, batch, rates, *update, smoothing, losses, threads);
    });
}

int kn_gradients(void* net, const KnImages* images, double smoothing, void* const* gradients, double* loss,
                 int threads) {
    return guarded([&] { *loss = static_cast<AnyNet*>(net)->gradients(*images, smoothing, gradients, threads); });
}

int kn_measure(void* net, const KnImages* images, double* loss, int64_t* right, int threads) {
    return guarded([&] { *loss = static_cast<AnyNet*>(net)->measure(*images, right, threads); });
}

int kn_logits(void* net, const KnImages* images, void* logits, int threads) {
    return guarded([&] { static_cast<AnyNet*>(net)->logits(*images, logits, threads); });
}

void kn_free(void* net) { delete static_cast<AnyNet*>(net); }

double kn_peak(int threads, double seconds) { return peak(threads, seconds); }

int kn_supports(const char* feature) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!std::strcmp(feature, "avx512"))
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
    if (!std::strcmp(feature, "avx2")) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    return !std::strcmp(feature, "portable");
}
}
