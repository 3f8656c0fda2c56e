/* The logit of each class: the greater, the likelier. */
void kn_logits(const uint8_t image[KN_IMAGE_BYTES], float logits[KN_CLASS_COUNT]);
