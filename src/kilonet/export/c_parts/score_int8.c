/* A sum as a score: sum * multiplier / 2^shift, to the nearest. */
static int32_t kn_score(const kn_layer *layer, int32_t channel, int32_t sum)
{
    const int64_t magnitude = (int64_t)(sum < 0 ? -sum : sum) * layer->multiplier[channel];
    const int32_t rounded = (int32_t)((magnitude + ((int64_t)1 << (layer->shift - 1))) >> layer->shift);

    return sum < 0 ? -rounded : rounded;
}

