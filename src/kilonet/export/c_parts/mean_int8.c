/* The sum of a pool's values. */
static int32_t kn_mean(const kn_layer *layer, const uint8_t *given, int32_t y, int32_t x, int32_t channel)
{
    int32_t sum = 0;

    for (int32_t ky = 0; ky < layer->kernel_height; ky++) {
        for (int32_t kx = 0; kx < layer->kernel_width; kx++) {
            const int32_t row = y * layer->stride_y + ky, column = x * layer->stride_x + kx;
            sum += given[(row * layer->given_width + column) * layer->given_channels + channel] - layer->zero_given;
        }
    }
    return sum;
}

