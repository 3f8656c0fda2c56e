/* Make a picture, $pixels, into an image by scaling it as a whole. `stride` is how many
 * bytes a row begins after the one before. Gives 1; or 0 where all is of one colour, or a side is more than 65535 pixels
 * or 64 times the other.
 */
int kn_prepare(const uint8_t *picture, int width, int height, int stride, uint8_t image[KN_IMAGE_BYTES]);
