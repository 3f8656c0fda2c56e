/* A sum as a byte of the next map: zero + sum * multiplier / 2^shift, to the nearest, cut to 0 to 255. */
static uint8_t kn_byte(const kn_layer *layer, int32_t channel, int32_t sum)
{
    const int64_t value = (int64_t)sum * layer->multiplier[channel] + ((int64_t)layer->zero_out << layer->shift)
        + ((int64_t)1 << (layer->shift - 1));

    if (value < 0) {
        return 0;
    }
    return (uint8_t)(value >> layer->shift > 255 ? 255 : value >> layer->shift);
}

