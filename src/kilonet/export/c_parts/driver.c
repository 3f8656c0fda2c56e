/* Images from standard input, the logits of each, as floats, to standard output. */
#include <stdio.h>
#include "$header"

int main(void)
{
    static uint8_t image[KN_IMAGE_BYTES];
    static float logits[KN_CLASS_COUNT];

    if (kn_self_test() != 0) {
        return 10 + kn_self_test();
    }
    while (fread(image, 1, sizeof image, stdin) == sizeof image) {
        const int answer = kn_classify(image);
        int best = 0;
        kn_logits(image, logits);
        for (int i = 1; i < KN_CLASS_COUNT; i++) {
            best = logits[i] > logits[best] ? i : best;
        }
        if (answer != best || fwrite(logits, sizeof logits[0], KN_CLASS_COUNT, stdout) != KN_CLASS_COUNT) {
            return answer != best ? 20 : 21;
        }
    }
    return 0;
}
