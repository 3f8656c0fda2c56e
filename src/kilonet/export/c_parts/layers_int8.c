/* A layer of one map to another; maps lie row by row, column by column, channel by channel. */
typedef struct {
    const int8_t *weight; /* by output channel, row, column and input channel of its group */
    const int32_t *bias;
    const int32_t *multiplier;
    $size given_height, given_width, given_channels;
    $size out_height, out_width, out_channels;
    $size kernel_height, kernel_width, stride_y, stride_x, padding_y, padding_x;
    $size groups;
    uint8_t zero_given, zero_out; /* bytes that stand for 0 */
    uint8_t shift;
} kn_layer;

