/* The mean of a pool's values. */
static float kn_mean(const kn_layer *layer, const float *given, int32_t y, int32_t x, int32_t channel)
{
    float sum = 0;

    for (int32_t ky = 0; ky < layer->kernel_height; ky++) {
        for (int32_t kx = 0; kx < layer->kernel_width; kx++) {
            const int32_t row = y * layer->stride_y + ky, column = x * layer->stride_x + kx;
            sum += given[(row * layer->given_width + column) * layer->given_channels + channel];
        }
    }
    return sum / (float)((int32_t)layer->kernel_height * layer->kernel_width);
}

