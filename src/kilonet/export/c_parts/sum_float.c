/* A convolution's output before its ReLU. */
static float kn_sum(const kn_layer *layer, const float *given, int32_t y, int32_t x, int32_t channel)
{
    const int32_t inputs = layer->given_channels / layer->groups, outputs = layer->out_channels / layer->groups;
    const int32_t rows = layer->kernel_height, columns = layer->kernel_width;
    const float *weight = layer->weight + channel * rows * columns * inputs;
    float sum = layer->bias[channel];

    given += channel / outputs * inputs;
    for (int32_t ky = 0; ky < rows; ky++) {
        const int32_t row = y * layer->stride_y + ky - layer->padding_y;
        for (int32_t kx = 0; kx < columns; kx++, weight += inputs) {
            const int32_t column = x * layer->stride_x + kx - layer->padding_x;
            if (row >= 0 && row < layer->given_height && column >= 0 && column < layer->given_width) {
                const float *from = given + (row * layer->given_width + column) * layer->given_channels;
                for (int32_t i = 0; i < inputs; i++) {
                    sum += weight[i] * from[i];
                }
            }
        }
    }
    return sum;
}

