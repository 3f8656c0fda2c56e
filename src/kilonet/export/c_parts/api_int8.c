void kn_scores(const uint8_t image[KN_IMAGE_BYTES], int32_t scores[KN_CLASS_COUNT])
{
$calls}

int kn_classify(const uint8_t image[KN_IMAGE_BYTES])
{
    int best = 0;

    kn_scores(image, kn_found);
    for (int i = 1; i < KN_CLASS_COUNT; i++) {
        if (kn_found[i] > kn_found[best]) {
            best = i;
        }
    }
    return best;
}

void kn_logits(const uint8_t image[KN_IMAGE_BYTES], float logits[KN_CLASS_COUNT])
{
    kn_scores(image, kn_found);
    for (int i = 0; i < KN_CLASS_COUNT; i++) {
        logits[i] = (float)kn_found[i] * KN_SCORE_UNIT;
    }
}

