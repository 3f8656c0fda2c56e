/* A convolution's sum of products. */
static int32_t kn_sum(const kn_layer *layer, const uint8_t *given, int32_t y, int32_t x, int32_t channel)
{
    const int32_t inputs = layer->given_channels / layer->groups, outputs = layer->out_channels / layer->groups;
    const int32_t rows = layer->kernel_height, columns = layer->kernel_width, zero = layer->zero_given;
    const int8_t *weight = layer->weight + channel * rows * columns * inputs;
    int32_t sum = layer->bias[channel];

    given += channel / outputs * inputs;
    for (int32_t ky = 0; ky < rows; ky++) {
        const int32_t row = y * layer->stride_y + ky - layer->padding_y;
        for (int32_t kx = 0; kx < columns; kx++, weight += inputs) {
            const int32_t column = x * layer->stride_x + kx - layer->padding_x;
            if (row >= 0 && row < layer->given_height && column >= 0 && column < layer->given_width) {
                const uint8_t *from = given + (row * layer->given_width + column) * layer->given_channels;
                for (int32_t i = 0; i < inputs; i++) {
                    sum += weight[i] * (from[i] - zero);
                }
            }
        }
    }
    return sum;
}

