int kn_prepare(const uint8_t *picture, int width, int height, int stride, uint8_t image[KN_IMAGE_BYTES])
{
    if (width < 1 || height < 1 || width > 65535 || height > 65535 || kn_is_blank(picture, width, height, stride)) {
        return 0;
    }
    for (int32_t i = 0; i < KN_IMAGE_BYTES; i++) {
        const kn_span rows = kn_spanned(i / KN_CHANNELS / KN_WIDTH, height, KN_HEIGHT);
        const kn_span columns = kn_spanned(i / KN_CHANNELS % KN_WIDTH, width, KN_WIDTH);
        float sum = 0;
        for (int32_t y = rows.first; y <= rows.last; y++) {
            const uint8_t *row = picture + (int64_t)y * stride + i % KN_CHANNELS;
            float along = 0;
            for (int32_t x = columns.first; x <= columns.last; x++) {
                along += kn_share(&columns, x) * (float)row[x * KN_CHANNELS];
            }
            sum += kn_share(&rows, y) * along;
        }
        image[i] = kn_rounded(sum);
    }
    return 1;
}

