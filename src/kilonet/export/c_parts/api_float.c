/* The image as the net is given it: (pixel - mean) / std. */
static void kn_normalise(const uint8_t *image, float *out)
{
    for (int32_t i = 0; i < KN_IMAGE_BYTES; i++) {
        out[i] = ((float)image[i] - kn_mean_pixel[i % KN_CHANNELS]) / kn_std_pixel[i % KN_CHANNELS];
    }
}

void kn_logits(const uint8_t image[KN_IMAGE_BYTES], float logits[KN_CLASS_COUNT])
{
    float *const maps = kn_memory.maps;

$calls}

int kn_classify(const uint8_t image[KN_IMAGE_BYTES])
{
    int best = 0;

    kn_logits(image, kn_found);
    for (int i = 1; i < KN_CLASS_COUNT; i++) {
        if (kn_found[i] > kn_found[best]) {
            best = i;
        }
    }
    return best;
}

