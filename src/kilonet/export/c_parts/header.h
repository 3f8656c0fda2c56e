/*
 * $title
 *
 * Written by Kilonet. C99, no allocation, no dependency but <stdint.h>. The functions share static memory,
 * $ram bytes of it: let only one of them run at a time, and none in an interrupt that comes while another runs.
 */
#ifndef KN_H
#define KN_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KN_WIDTH $width
#define KN_HEIGHT $height
#define KN_CHANNELS $channels
#define KN_IMAGE_BYTES $image_bytes /* pixel by pixel, row by row from the top; of a colour image red, green, blue */
#define KN_CLASS_COUNT $class_count

#define KN_RAM_BYTES $ram /* static memory */
#define KN_WEIGHT_BYTES $weight_bytes /* constants that the net is made of; the code and the test image come on top */
#define KN_MULTIPLY_ADDS $multiply_adds /* for an image */

/* The name of each class, in UTF-8. */
extern const char *const kn_classes[KN_CLASS_COUNT];

/* The class of an image, from 0: the one with the greatest logit, the first of them if there are several. */
int kn_classify(const uint8_t image[KN_IMAGE_BYTES]);

$outputs
#ifdef KN_PROBABILITIES
/* The probability of each class. Define KN_PROBABILITIES for both files to have it: it needs expf of <math.h>. */
void kn_probabilities(const uint8_t image[KN_IMAGE_BYTES], float probabilities[KN_CLASS_COUNT]);
#endif

$prepare
/* Whether the compiled code answers as it should, by an image with its answer: 0; 1 for a wrong class, 2 for logits
 * that are off. */
int kn_self_test(void);

#ifdef __cplusplus
}
#endif

#endif
