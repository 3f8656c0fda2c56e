#define KN_CELLS $coarse
#define KN_INK_VALUES $ink_values /* of the largest box that ink is scaled into */

/* What preparing a picture needs: first to find the ink, then to write it. */
typedef union {
    struct {
        uint8_t cells[KN_CELLS * KN_CELLS]; /* the picture's brightness, cell by cell */
        uint8_t todo[KN_CELLS * KN_CELLS / 8], part[KN_CELLS * KN_CELLS / 8]; /* a bit a cell */
        uint16_t counts[256];
    } look;
    struct {
        float ink[KN_INK_VALUES], before[KN_INK_VALUES];
    } write;
} kn_preparation;

