/* Make a greyscale picture, brightness 0 to 255, into an image: the ink on it, on bright or dark paper, bright on 0, of
 * the size and at the place that the net was trained on. `stride` is how many bytes a row begins after the one before.
 * Gives 1; or 0 where nothing is drawn, or a side is more than 65535 pixels or more than 64 times the other.
 */
int kn_prepare(const uint8_t *picture, int width, int height, int stride, uint8_t image[KN_IMAGE_BYTES]);
