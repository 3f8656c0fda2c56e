#ifdef KN_PROBABILITIES
#include <math.h>

void kn_probabilities(const uint8_t image[KN_IMAGE_BYTES], float probabilities[KN_CLASS_COUNT])
{
    float greatest, sum = 0;

    kn_logits(image, probabilities);
    greatest = probabilities[0];
    for (int i = 1; i < KN_CLASS_COUNT; i++) {
        if (probabilities[i] > greatest) {
            greatest = probabilities[i];
        }
    }
    for (int i = 0; i < KN_CLASS_COUNT; i++) {
        probabilities[i] = expf(probabilities[i] - greatest);
        sum += probabilities[i];
    }
    for (int i = 0; i < KN_CLASS_COUNT; i++) {
        probabilities[i] /= sum;
    }
}
#endif

