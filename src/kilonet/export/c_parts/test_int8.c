int kn_self_test(void)
{
    uint8_t image[KN_IMAGE_BYTES];

    for (int i = 0; i < KN_IMAGE_BYTES; i++) {
        image[i] = 0;
    }
    for (int i = 0; i < $test_bytes; i++) {
        image[$test_first + i / $test_row * (KN_WIDTH * KN_CHANNELS) + i % $test_row] = kn_test_pixels[i];
    }
    if (kn_classify(image) != $test_class) {
        return 1;
    }
    for (int i = 0; i < KN_CLASS_COUNT; i++) {
        if (kn_found[i] != kn_test_scores[i]) {
            return 2;
        }
    }
    return 0;
}
