static void kn_$name(const kn_layer *layer, const $given *given, $out *out)
{
    for (int32_t y = 0; y < layer->out_height; y++) {
        for (int32_t x = 0; x < layer->out_width; x++) {
            for (int32_t channel = 0; channel < layer->out_channels; channel++) {
                $statements
            }
        }
    }
}

