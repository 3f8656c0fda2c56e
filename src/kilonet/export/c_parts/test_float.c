int kn_self_test(void)
{
    if (kn_classify(kn_test_image) != $test_class) {
        return 1;
    }
    for (int i = 0; i < KN_CLASS_COUNT; i++) {
        const float expected = kn_test_logits[i], off = kn_found[i] - expected;
        const float most = 1e-4f + 1e-5f * (expected < 0 ? -expected : expected);
        if (!(off <= most && -off <= most)) {
            return 2;
        }
    }
    return 0;
}
