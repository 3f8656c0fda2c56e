/* A layer of one map to another; maps lie row by row, column by column, channel by channel. */
typedef struct {
    const float *weight; /* by output channel, row, column and input channel of its group */
    const float *bias;
    $size given_height, given_width, given_channels;
    $size out_height, out_width, out_channels;
    $size kernel_height, kernel_width, stride_y, stride_x, padding_y, padding_x;
    $size groups;
    uint8_t relu;
} kn_layer;

