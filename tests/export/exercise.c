/* Every function of a written net, over pictures of awkward sizes and looks; NET is what its names begin with. */
#include HEADER
#include <stdio.h>
#include <stdlib.h>

#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define OF(name) JOIN(NET, name)

static int try_picture(int width, int height, int look)
{
    const size_t size = (size_t)width * (size_t)height * CHANNELS;
    uint8_t *const picture = malloc(size), *const image = malloc(IMAGE_BYTES);
    float *const logits = malloc(CLASS_COUNT * sizeof(float));
    int answer, drawn;

    for (size_t i = 0; i < size; i++) {
        const size_t x = i / CHANNELS % (size_t)width, y = i / CHANNELS / (size_t)width;
        switch (look) {
        case 0: picture[i] = 255; break;
        case 1: picture[i] = (uint8_t)(rand() % 256); break;
        case 2: picture[i] = (uint8_t)((x + y) % 2 ? 0 : 255); break;
        case 3: picture[i] = (uint8_t)(x % 4 || y % 4 ? 255 : 0); break;
        case 4: picture[i] = (uint8_t)(x * 255 / (size_t)width); break;
        case 5: picture[i] = (uint8_t)(x == (size_t)width / 2 ? 200 : 30); break;
        case 6: picture[i] = (uint8_t)(i == size / 2 ? 255 : 0); break;
        default: picture[i] = (uint8_t)(2 * x < (size_t)width ? 250 : 5); break;
        }
    }
    drawn = OF(prepare)(picture, width, height, width * CHANNELS, image);
    if (drawn) {
        answer = OF(classify)(image);
        OF(logits)(image, logits);
        OF(probabilities)(image, logits);
        if (answer < 0 || answer >= CLASS_COUNT || !OF(classes)[answer]) {
            abort();
        }
    }
    free(picture);
    free(image);
    free(logits);
    return drawn;
}

int main(void)
{
    static const int sides[] = {1, 2, 7, 28, 64, 65, 129};
    int drawn = 0;

    for (int look = 0; look < 8; look++) {
        for (int i = 0; i < 49; i++) {
            drawn += try_picture(sides[i % 7], sides[i / 7], look);
        }
        drawn += try_picture(5000, 1, look) + try_picture(1, 5000, look) + try_picture(3, 70000, look)
            + try_picture(1000, 20, look) + try_picture(700, 500, look);
    }
    printf("%d\n", drawn);
    return OF(self_test)();
}
