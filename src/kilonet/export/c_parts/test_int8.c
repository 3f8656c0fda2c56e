int kn_self_test(void)
{
    if (kn_classify(kn_test_image) != $test_class) {
        return 1;
    }
    for (int i = 0; i < KN_CLASS_COUNT; i++) {
        if (kn_found[i] != kn_test_scores[i]) {
            return 2;
        }
    }
    return 0;
}
