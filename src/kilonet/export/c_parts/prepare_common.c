/* A picture is blank where its brightest pixel is hardly brighter than its darkest, in each channel. */
static int kn_is_blank(const uint8_t *picture, int32_t width, int32_t height, int32_t stride)
{
    if (width > $longest * height || height > $longest * width) {
        return 1;
    }
    for (int32_t channel = 0; channel < KN_CHANNELS; channel++) {
        const uint8_t *row = picture + channel;
        uint8_t least = 255, most = 0;
        for (int32_t y = 0; y < height; y++, row += stride) {
            for (int32_t x = 0; x < width; x++) {
                least = row[x * KN_CHANNELS] < least ? row[x * KN_CHANNELS] : least;
                most = row[x * KN_CHANNELS] > most ? row[x * KN_CHANNELS] : most;
            }
        }
        if (most >= least && most - least >= $faintest_whole) {
            return 0;
        }
    }
    return 1;
}

/* Which of some given values count in one of the wanted: of fewer by the area in common, of more by distance. */
typedef struct {
    int32_t first, last;
    float start, step;
} kn_span;

static kn_span kn_spanned(int32_t at, int32_t given, int32_t wanted)
{
    kn_span span;

    span.step = (float)given / (float)wanted;
    if (given >= wanted) {
        span.start = (float)(at * given) / (float)wanted;
        span.last = (int32_t)(span.start + span.step);
    } else {
        span.start = ((float)at + 0.5f) * span.step - 0.5f;
        span.start = span.start < 0 ? 0 : span.start;
        span.last = (int32_t)span.start + 1;
    }
    span.first = (int32_t)span.start;
    span.last = span.last < given - 1 ? span.last : given - 1;
    span.start = span.start < (float)(given - 1) || given >= wanted ? span.start : (float)(given - 1);
    return span;
}

static float kn_share(const kn_span *span, int32_t at)
{
    const float place = (float)at;
    float share;

    if (span->step >= 1) {
        const float end = span->start + span->step;
        share = ((end < place + 1 ? end : place + 1) - (span->start > place ? span->start : place)) / span->step;
    } else {
        share = 1 - (span->start > place ? span->start - place : place - span->start);
    }
    return share > 0 ? share : 0;
}

static uint8_t kn_rounded(float value)
{
    return value < 0 ? 0 : value >= 255 ? 255 : (uint8_t)(value + 0.5f);
}

