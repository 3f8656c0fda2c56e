/* The greatest of a pool's values. */
static $value kn_maximum(const kn_layer *layer, const $value *given, int32_t y, int32_t x, int32_t channel)
{
    const int32_t first = y * layer->stride_y * layer->given_width + x * layer->stride_x;
    $value greatest = given[first * layer->given_channels + channel];

    for (int32_t ky = 0; ky < layer->kernel_height; ky++) {
        for (int32_t kx = 0; kx < layer->kernel_width; kx++) {
            const int32_t row = y * layer->stride_y + ky, column = x * layer->stride_x + kx;
            const $value value = given[(row * layer->given_width + column) * layer->given_channels + channel];
            if (value > greatest) {
                greatest = value;
            }
        }
    }
    return greatest;
}

