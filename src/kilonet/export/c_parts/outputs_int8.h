/* The logit of each class: the greater, the likelier. Exactly KN_SCORE_UNIT times its score. */
void kn_logits(const uint8_t image[KN_IMAGE_BYTES], float logits[KN_CLASS_COUNT]);

/* The logits as whole numbers, without any float. */
void kn_scores(const uint8_t image[KN_IMAGE_BYTES], int32_t scores[KN_CLASS_COUNT]);
#define KN_SCORE_UNIT $unit
