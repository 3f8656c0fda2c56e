/* A grid of square cells over a part of a picture, and the paper's brightness under it. */
typedef struct {
    const uint8_t *picture;
    int32_t width, height, stride;
    int32_t top, left, size, rows, columns;
    float paper[6];
} kn_sheet;

/* A picture of the image's size that was made so, as it is: its border mostly black, or mostly white, its ink of a usual
 * size and about the middle; bright on black. */
static int kn_as_it_is(const uint8_t *picture, int32_t stride, uint8_t *image)
{
    int32_t border = 0, black = 0, white = 0, top = KN_HEIGHT, bottom = -1, left = KN_WIDTH, right = -1;
    int32_t tall, wide;
    $sum total = 0, down = 0, across = 0;
    uint8_t flip;

    for (int32_t y = 0; y < KN_HEIGHT; y++) {
        const uint8_t *row = picture + y * stride;
        for (int32_t x = 0; x < KN_WIDTH; x++) {
            const int32_t on = (y == 0) + (y == KN_HEIGHT - 1);
            const int32_t times = on ? on : (x == 0) + (x == KN_WIDTH - 1);
            border += times;
            black += row[x] == 0 ? times : 0;
            white += row[x] == 255 ? times : 0;
        }
    }
    if (2 * black < border + 2 && 2 * white < border + 2) {
        return 0;
    }
    flip = 2 * black < border + 2 ? 255 : 0;
    for (int32_t y = 0; y < KN_HEIGHT; y++) {
        for (int32_t x = 0; x < KN_WIDTH; x++) {
            const uint8_t value = (uint8_t)(picture[y * stride + x] ^ flip);
            image[y * KN_WIDTH + x] = value;
            total += ($sum)value;
            down += ($sum)value * ($sum)(2 * y + 1 - KN_HEIGHT);
            across += ($sum)value * ($sum)(2 * x + 1 - KN_WIDTH);
            if (value > $lit) {
                top = y < top ? y : top;
                bottom = y;
                left = x < left ? x : left;
                right = x > right ? x : right;
            }
        }
    }
    tall = (bottom + 1 - top) * KN_WIDTH;
    wide = (right + 1 - left) * KN_HEIGHT;
    wide = tall > wide ? tall : wide;
    down = down < 0 ? -down : down;
    across = across < 0 ? -across : across;
    return wide >= $least_extent && wide <= $most_extent && $off * down <= 2 * KN_HEIGHT * total &&
        $off * across <= 2 * KN_WIDTH * total;
}

/* The smallest cells over a window of which there are at most so many a side, and one at least. */
static void kn_lay(kn_sheet *sheet, int32_t top, int32_t left, int32_t height, int32_t width, int32_t most)
{
    const int32_t longer = height > width ? height : width, shorter = height > width ? width : height;
    const int32_t size = (longer + most - 1) / most;

    sheet->top = top;
    sheet->left = left;
    sheet->size = size < shorter ? size : shorter;
    sheet->rows = height / sheet->size;
    sheet->columns = width / sheet->size;
}

/* A cell's mean brightness, rounded. */
static uint8_t kn_cell(const kn_sheet *sheet, int32_t row, int32_t column)
{
    const int32_t size = sheet->size, left = sheet->left + column * size;
    const uint8_t *from = sheet->picture + (int64_t)(sheet->top + row * size) * sheet->stride + left;
    const uint32_t area = (uint32_t)size * (uint32_t)size;
    uint32_t sum = 0;

    for (int32_t y = 0; y < size; y++, from += sheet->stride) {
        for (int32_t x = 0; x < size; x++) {
            sum += from[x];
        }
    }
    return (uint8_t)((2 * sum + area) / (2 * area));
}

/* Where a cell's centre lies, -1 to 1 over the picture, as the terms of the paper's brightness. */
static void kn_terms(const kn_sheet *sheet, int32_t row, int32_t column, float terms[6])
{
    const float size = (float)sheet->size;
    const float x = 2 * ((float)sheet->left + ((float)column + 0.5f) * size) / (float)sheet->width - 1;
    const float y = 2 * ((float)sheet->top + ((float)row + 0.5f) * size) / (float)sheet->height - 1;

    terms[0] = 1;
    terms[1] = x;
    terms[2] = y;
    terms[3] = x * x;
    terms[4] = x * y;
    terms[5] = y * y;
}

/* By how much a cell of this brightness is brighter than the paper. */
static float kn_away(const kn_sheet *sheet, int32_t row, int32_t column, uint8_t brightness)
{
    float terms[6], light = 0;

    kn_terms(sheet, row, column, terms);
    for (int32_t i = 0; i < 6; i++) {
        light += sheet->paper[i] * terms[i];
    }
    return (float)brightness - light;
}

static float kn_looked(const kn_sheet *sheet, int32_t row, int32_t column)
{
    return kn_away(sheet, row, column, kn_memory.preparation.look.cells[row * KN_CELLS + column]);
}

/* The distance from the paper, in 2^-15, that is the nth least, from 0, of the cells in every `step`th row and column:
 * its three bytes one after the other, by counting. */
static uint32_t kn_nth_distance(const kn_sheet *sheet, int32_t step, int32_t nth)
{
    uint16_t *const counts = kn_memory.preparation.look.counts;
    uint32_t found = 0;

    for (int32_t shift = 16; shift >= 0; shift -= 8) {
        uint32_t byte = 0;
        for (int32_t i = 0; i < 256; i++) {
            counts[i] = 0;
        }
        for (int32_t row = 0; row < sheet->rows; row += step) {
            for (int32_t column = 0; column < sheet->columns; column += step) {
                const float away = kn_looked(sheet, row, column), distance = away < 0 ? -away : away;
                const uint32_t whole = distance < 511 ? (uint32_t)(distance * 32768) : 16777215;
                if (whole >> shift >> 8 == found) {
                    counts[whole >> shift & 255]++;
                }
            }
        }
        while (nth >= counts[byte]) {
            nth -= counts[byte++];
        }
        found = found << 8 | byte;
    }
    return found;
}

static float kn_median_distance(const kn_sheet *sheet, int32_t step)
{
    const int32_t n = ((sheet->rows + step - 1) / step) * ((sheet->columns + step - 1) / step);
    const uint32_t low = kn_nth_distance(sheet, step, (n - 1) / 2);
    const uint32_t high = n % 2 ? low : kn_nth_distance(sheet, step, n / 2);

    return (float)(low + high) / 65536;
}

/* The median of what neighbouring cells differ by. */
static float kn_median_step(const kn_sheet *sheet)
{
    const uint8_t *const cells = kn_memory.preparation.look.cells;
    uint16_t *const counts = kn_memory.preparation.look.counts;
    const int32_t n = (sheet->rows - 1) * sheet->columns + sheet->rows * (sheet->columns - 1);
    int32_t seen, low = 0, high;

    for (int32_t i = 0; i < 256; i++) {
        counts[i] = 0;
    }
    for (int32_t row = 0; row < sheet->rows; row++) {
        for (int32_t column = 0; column < sheet->columns; column++) {
            const uint8_t *const cell = cells + row * KN_CELLS + column;
            for (int32_t down = 0; down < 2; down++) {
                if (down ? row + 1 < sheet->rows : column + 1 < sheet->columns) {
                    const int32_t by = cell[0] - cell[down ? KN_CELLS : 1];
                    counts[by < 0 ? -by : by]++;
                }
            }
        }
    }
    for (seen = counts[0]; seen <= (n - 1) / 2; seen += counts[low]) {
        low++;
    }
    for (high = low; seen <= n / 2; seen += counts[high]) {
        high++;
    }
    return (float)(low + high) / 2;
}

/* Solve the six equations of a weighted fit by elimination; the last column is what they equal. */
static void kn_solve(float equations[6][7], float *solution)
{
    for (int32_t i = 0; i < 6; i++) {
        for (int32_t row = i + 1; row < 6; row++) {
            const float times = equations[row][i] / equations[i][i];
            for (int32_t column = i; column < 7; column++) {
                equations[row][column] -= times * equations[i][column];
            }
        }
    }
    for (int32_t i = 5; i >= 0; i--) {
        solution[i] = equations[i][6];
        for (int32_t column = i + 1; column < 6; column++) {
            solution[i] -= equations[i][column] * solution[column];
        }
        solution[i] /= equations[i][i];
    }
}

/* The paper's brightness: the surface that most cells of every other row and column lie near, by least squares with
 * Cauchy's weights. */
static void kn_fit_paper(kn_sheet *sheet)
{
    float before[6] = {0}, moved = $settled;

    for (int32_t i = 0; i < 6; i++) {
        sheet->paper[i] = 0;
    }
    sheet->paper[0] = kn_median_distance(sheet, 2);
    for (int32_t round = 0; round < $rounds && moved >= $settled; round++) {
        const float middle = 2 * kn_median_distance(sheet, 2), far = middle > 4 ? middle : 4;
        float equations[6][7] = {{0}}, terms[7];
        int32_t n = 0;
        for (int32_t row = 0; row < sheet->rows; row += 2) {
            for (int32_t column = 0; column < sheet->columns; column += 2, n++) {
                const float away = kn_looked(sheet, row, column) / far, weight = 1 / (1 + away * away);
                kn_terms(sheet, row, column, terms);
                terms[6] = (float)kn_memory.preparation.look.cells[row * KN_CELLS + column];
                for (int32_t i = 0; i < 6; i++) {
                    for (int32_t j = 0; j < 7; j++) {
                        equations[i][j] += weight * terms[i] * terms[j];
                    }
                }
            }
        }
        for (int32_t i = 1; i < 6; i++) {
            equations[i][i] += (float)n / 1000;
        }
        kn_solve(equations, sheet->paper);
        moved = 0;
        for (int32_t i = 0; i < 6; i++) {
            moved += (sheet->paper[i] - before[i]) * (sheet->paper[i] - before[i]);
            before[i] = sheet->paper[i];
        }
    }
}

static int kn_has(const uint8_t *bits, int32_t row, int32_t column)
{
    return bits[(row * KN_CELLS + column) / 8] >> column % 8 & 1;
}

static void kn_flip(uint8_t *bits, int32_t row, int32_t column)
{
    bits[(row * KN_CELLS + column) / 8] ^= (uint8_t)(1 << column % 8);
}

/* Which cells' ink is above a level. */
static void kn_mark(const kn_sheet *sheet, float sign, float least)
{
    uint8_t *const todo = kn_memory.preparation.look.todo;

    for (int32_t i = 0; i < KN_CELLS * KN_CELLS / 8; i++) {
        todo[i] = 0;
    }
    for (int32_t row = 0; row < sheet->rows; row++) {
        for (int32_t column = 0; column < sheet->columns; column++) {
            if (sign * kn_looked(sheet, row, column) > least) {
                kn_flip(todo, row, column);
            }
        }
    }
}

/* Cells of ink that touch each other. */
typedef struct {
    int32_t top, bottom, left, right; /* the first and last row and column */
    int32_t cells;
    float mass;
    int outer; /* whether they take up more than a third of one of the picture's edges */
} kn_blob;

/* Move a cell from those to do to the present part, if it touches that: 1 if it was moved. */
static int kn_join(const kn_sheet *sheet, int32_t row, int32_t column)
{
    uint8_t *const todo = kn_memory.preparation.look.todo, *const part = kn_memory.preparation.look.part;

    if (!kn_has(todo, row, column)) {
        return 0;
    }
    for (int32_t y = row ? row - 1 : 0; y <= row + 1 && y < sheet->rows; y++) {
        for (int32_t x = column ? column - 1 : 0; x <= column + 1 && x < sheet->columns; x++) {
            if (kn_has(part, y, x)) {
                kn_flip(todo, row, column);
                kn_flip(part, row, column);
                return 1;
            }
        }
    }
    return 0;
}

static void kn_measure(const kn_sheet *sheet, float sign, kn_blob *blob)
{
    const int32_t last_row = sheet->rows - 1, last_column = sheet->columns - 1;
    int32_t edges[4] = {0};

    for (int32_t row = blob->top; row <= blob->bottom; row++) {
        for (int32_t column = 0; column <= last_column; column++) {
            if (kn_has(kn_memory.preparation.look.part, row, column)) {
                blob->cells++;
                blob->mass += sign * kn_looked(sheet, row, column);
                blob->left = column < blob->left ? column : blob->left;
                blob->right = column > blob->right ? column : blob->right;
                edges[0] += row == 0;
                edges[1] += row == last_row;
                edges[2] += column == 0;
                edges[3] += column == last_column;
            }
        }
    }
    blob->outer = 3 * edges[0] > sheet->columns || 3 * edges[1] > sheet->columns || 3 * edges[2] > sheet->rows
        || 3 * edges[3] > sheet->rows;
}

/* Take the next connected cells from those to do, the search beginning in this row: 0 if there are none. */
static int kn_next_blob(const kn_sheet *sheet, float sign, int32_t row, kn_blob *blob)
{
    uint8_t *const todo = kn_memory.preparation.look.todo, *const part = kn_memory.preparation.look.part;
    int32_t column = 0, moved = 1;

    while (row < sheet->rows && !kn_has(todo, row, column)) {
        column++;
        row += column / sheet->columns;
        column %= sheet->columns;
    }
    if (row == sheet->rows) {
        return 0;
    }
    for (int32_t i = 0; i < KN_CELLS * KN_CELLS / 8; i++) {
        part[i] = 0;
    }
    kn_flip(todo, row, column);
    kn_flip(part, row, column);
    blob->top = blob->bottom = row;
    blob->left = blob->right = column;
    blob->cells = 0;
    blob->mass = 0;
    while (moved) {
        moved = 0;
        for (int32_t y = blob->top; y < sheet->rows && y <= blob->bottom + 1; y++) {
            for (int32_t x = 0; x < sheet->columns; x++) {
                if (kn_join(sheet, y, x)) {
                    blob->bottom = y > blob->bottom ? y : blob->bottom;
                    moved = 1;
                }
            }
        }
        for (int32_t y = blob->bottom; y >= blob->top; y--) {
            for (int32_t x = sheet->columns - 1; x >= 0; x--) {
                moved |= kn_join(sheet, y, x);
            }
        }
    }
    kn_measure(sheet, sign, blob);
    return 1;
}

/* The mean of what is above a least one, weighted by itself, by its sums; 0 if there is none. */
static float kn_level(float squares, float sum)
{
    return sum > 0 ? squares / sum : 0;
}

/* Which cells are the drawing: 1 if the ink is brighter than the paper, -1 if it is darker, 0 if there is none; and its
 * level, given the standard deviation of the noise. */
static float kn_find(const kn_sheet *sheet, float noise, kn_blob *drawing, float *level)
{
    const float least = 4 * noise > $faintest ? 4 * noise : $faintest;
    float bright = 0, dark = 0, bright_squares = 0, dark_squares = 0, sign, faintest, heaviest = 0, inner = 0, enough;
    kn_blob blob = {0, 0, 0, 0, 0, 0, 0};
    int outer = 0, all;

    for (int32_t row = 0; row < sheet->rows; row++) {
        for (int32_t column = 0; column < sheet->columns; column++) {
            const float away = kn_looked(sheet, row, column);
            bright += away > least ? away : 0;
            bright_squares += away > least ? away * away : 0;
            dark -= away < -least ? away : 0;
            dark_squares += away < -least ? away * away : 0;
        }
    }
    sign = bright >= dark ? 1 : -1;
    *level = sign > 0 ? kn_level(bright_squares, bright) : kn_level(dark_squares, dark);
    if (!(*level > 0)) {
        return 0;
    }
    faintest = $edge * *level > least ? $edge * *level : least;
    kn_mark(sheet, sign, faintest);
    while (kn_next_blob(sheet, sign, blob.top, &blob)) {
        heaviest = blob.mass > heaviest ? blob.mass : heaviest;
        inner = blob.mass > inner && !blob.outer ? blob.mass : inner;
    }
    all = inner < $outer * heaviest;
    enough = $speck * (all ? heaviest : inner);
    drawing->top = drawing->left = KN_CELLS;
    drawing->bottom = drawing->right = -1;
    drawing->cells = 0;
    blob.top = 0;
    kn_mark(sheet, sign, faintest);
    while (kn_next_blob(sheet, sign, blob.top, &blob)) {
        if (blob.mass >= enough && (all || !blob.outer)) {
            drawing->top = blob.top < drawing->top ? blob.top : drawing->top;
            drawing->bottom = blob.bottom > drawing->bottom ? blob.bottom : drawing->bottom;
            drawing->left = blob.left < drawing->left ? blob.left : drawing->left;
            drawing->right = blob.right > drawing->right ? blob.right : drawing->right;
            drawing->cells += blob.cells;
            outer |= blob.outer;
        }
    }
    {
        const int32_t box = (drawing->bottom + 1 - drawing->top) * (drawing->right + 1 - drawing->left);
        const int bar = outer && (float)drawing->cells >= $bar * (float)box;
        return bar || drawing->cells < $smallest ? 0 : sign;
    }
}

/* Lay finer cells around the drawing and one coarse cell on each side. */
static void kn_look_closer(kn_sheet *sheet, const kn_blob *drawing)
{
    const int32_t size = sheet->size;
    const int32_t top = (drawing->top ? drawing->top - 1 : 0) * size, bottom = (drawing->bottom + 2) * size;
    const int32_t left = (drawing->left ? drawing->left - 1 : 0) * size, right = (drawing->right + 2) * size;

    kn_lay(sheet, top, left, (bottom < sheet->height ? bottom : sheet->height) - top,
        (right < sheet->width ? right : sheet->width) - left, $fine);
}

static float kn_ink(const kn_sheet *sheet, float sign, int32_t row, int32_t column)
{
    return sign * kn_away(sheet, row, column, kn_cell(sheet, row, column));
}

/* The ink's level among the fine cells, by that among the coarse; 0 if there is none. */
static float kn_fine_level(const kn_sheet *sheet, float sign, float level)
{
    float squares = 0, sum = 0;

    for (int32_t row = 0; row < sheet->rows; row++) {
        for (int32_t column = 0; column < sheet->columns; column++) {
            const float ink = kn_ink(sheet, sign, row, column);
            squares += ink > $edge * level ? ink * ink : 0;
            sum += ink > $edge * level ? ink : 0;
        }
    }
    return kn_level(squares, sum);
}

/* The box around the ink. */
static void kn_box(const kn_sheet *sheet, float sign, float level, kn_blob *box)
{
    box->top = sheet->rows;
    box->left = sheet->columns;
    box->bottom = box->right = -1;
    box->cells = 0;
    for (int32_t row = 0; row < sheet->rows; row++) {
        for (int32_t column = 0; column < sheet->columns; column++) {
            if (kn_ink(sheet, sign, row, column) > $edge * level) {
                box->top = row < box->top ? row : box->top;
                box->bottom = row;
                box->left = column < box->left ? column : box->left;
                box->right = column > box->right ? column : box->right;
                box->cells++;
            }
        }
    }
}

/* A side scaled as the longer one is, to the nearest. */
static int32_t kn_scaled(int32_t side, int32_t from, int32_t to)
{
    const int32_t scaled = (40 * side * to + 28 * from) / (56 * from);

    return scaled < 1 ? 1 : scaled;
}

/* The sum of a value's four neighbours; outside is paper. */
static float kn_neighbours(const float *ink, int32_t rows, int32_t columns, int32_t at)
{
    const int32_t row = at / columns, column = at % columns;

    return (row > 0 ? ink[at - columns] : 0) + (row + 1 < rows ? ink[at + columns] : 0)
        + (column > 0 ? ink[at - 1] : 0) + (column + 1 < columns ? ink[at + 1] : 0);
}

/* How solid strokes are. */
static float kn_solidity(const float *ink, int32_t n)
{
    float squares = 0, sum = 0;

    for (int32_t i = 0; i < n; i++) {
        squares += ink[i] * ink[i];
        sum += ink[i];
    }
    return squares / sum;
}

/* Give each value a share of its neighbours, less what is taken off them all. */
static void kn_change(int32_t rows, int32_t columns, float off)
{
    float *const ink = kn_memory.preparation.write.ink, *const before = kn_memory.preparation.write.before;

    for (int32_t i = 0; i < rows * columns; i++) {
        before[i] = ink[i];
    }
    for (int32_t i = 0; i < rows * columns; i++) {
        const float value = before[i] + $spread * (kn_neighbours(before, rows, columns, i) - off);
        ink[i] = value < 0 ? 0 : value > 1 ? 1 : value;
    }
}

/* Strokes as solid as those of the training images: spread while they are thinner, worn off while thicker. */
static void kn_stroke(int32_t rows, int32_t columns)
{
    const float *const ink = kn_memory.preparation.write.ink;

    for (int32_t time = 0; time < $times && kn_solidity(ink, rows * columns) < $thin; time++) {
        kn_change(rows, columns, 0);
    }
    for (int32_t time = 0; time < $times && kn_solidity(ink, rows * columns) > $thick; time++) {
        kn_change(rows, columns, 4);
    }
}

/* Where ink whose centre is there begins, so that this comes nearest to the middle and nothing leaves the side. */
static int32_t kn_shift(int32_t side, int32_t inner, float centre)
{
    const float place = (float)(side - 1) / 2 - centre + 0.5f + $tie;
    const int32_t whole = place < 0 ? 0 : (int32_t)place;

    return whole < side - inner ? whole : side - inner;
}

/* The ink in a box, 0 to 1, scaled; the noise is that of a pixel. */
static void kn_scale(const kn_sheet *sheet, float sign, float level, float noise, const kn_blob *box, int32_t rows,
    int32_t columns)
{
    const float grain = $grain * noise / (float)sheet->size / level;
    const float paper = grain < $clear ? $clear : grain > $edge ? $edge : grain;
    float *const ink = kn_memory.preparation.write.ink;
    const int32_t height = box->bottom + 1 - box->top, width = box->right + 1 - box->left;
    float most = 0;

    for (int32_t i = 0; i < rows * columns; i++) {
        const kn_span down = kn_spanned(i / columns, height, rows), across = kn_spanned(i % columns, width, columns);
        ink[i] = 0;
        for (int32_t y = down.first; y <= down.last; y++) {
            for (int32_t x = across.first; x <= across.last; x++) {
                const float share = kn_share(&down, y) * kn_share(&across, x);
                if (share > 0) {
                    const float value = kn_ink(sheet, sign, box->top + y, box->left + x) / level;
                    const float shade = (value - paper) / ($solid - paper);
                    ink[i] += share * (shade < 0 ? 0 : shade > 1 ? 1 : shade);
                }
            }
        }
        most = ink[i] > most ? ink[i] : most;
    }
    for (int32_t i = 0; i < rows * columns; i++) {
        ink[i] /= most;
    }
}

/* Write the ink with its centre of mass at the image's centre. */
static void kn_write(uint8_t *image, int32_t rows, int32_t columns)
{
    const float *const ink = kn_memory.preparation.write.ink;
    float sum = 0, down = 0, across = 0;
    int32_t top, left;

    for (int32_t i = 0; i < rows * columns; i++) {
        sum += ink[i];
        down += ink[i] * (float)(i / columns);
        across += ink[i] * (float)(i % columns);
    }
    top = kn_shift(KN_HEIGHT, rows, down / sum);
    left = kn_shift(KN_WIDTH, columns, across / sum);
    for (int32_t i = 0; i < KN_IMAGE_BYTES; i++) {
        image[i] = 0;
    }
    for (int32_t i = 0; i < rows * columns; i++) {
        image[(top + i / columns) * KN_WIDTH + left + i % columns] = kn_rounded(255 * ink[i]);
    }
}

int kn_prepare(const uint8_t *picture, int width, int height, int stride, uint8_t image[KN_IMAGE_BYTES])
{
    kn_sheet sheet = {0};
    kn_blob box = {0};
    float sign = 0, level = 0, noise = 0;

    if (width < 1 || height < 1 || width > 65535 || height > 65535 || kn_is_blank(picture, width, height, stride)) {
        return 0;
    }
    if (width == KN_WIDTH && height == KN_HEIGHT && kn_as_it_is(picture, stride, image)) {
        return 1;
    }
    sheet.picture = picture;
    sheet.width = width;
    sheet.height = height;
    sheet.stride = stride;
    kn_lay(&sheet, 0, 0, height, width, KN_CELLS);
    for (int32_t row = 0; row < sheet.rows; row++) {
        for (int32_t column = 0; column < sheet.columns; column++) {
            kn_memory.preparation.look.cells[row * KN_CELLS + column] = kn_cell(&sheet, row, column);
        }
    }
    kn_fit_paper(&sheet);
    for (int again = 0; !(sign < 0 || sign > 0) && again < 2; again++) {
        noise = 1.4826f * (again ? 0.70710678f * kn_median_step(&sheet) : kn_median_distance(&sheet, 1));
        sign = kn_find(&sheet, noise, &box, &level);
    }
    if (!(sign < 0 || sign > 0)) {
        return 0;
    }
    noise *= (float)sheet.size;
    kn_look_closer(&sheet, &box);
    level = kn_fine_level(&sheet, sign, level);
    if (!(level > 0)) {
        return 0;
    }
    kn_box(&sheet, sign, level, &box);
    {
        const int32_t tall = box.bottom + 1 - box.top, wide = box.right + 1 - box.left;
        const int32_t longer = tall > wide ? tall : wide, shorter = tall > wide ? wide : tall;
        const int by_height = KN_HEIGHT * wide <= KN_WIDTH * tall;
        const int32_t rows = by_height ? kn_scaled(tall, tall, KN_HEIGHT) : kn_scaled(tall, wide, KN_WIDTH);
        const int32_t columns = by_height ? kn_scaled(wide, tall, KN_HEIGHT) : kn_scaled(wide, wide, KN_WIDTH);
        if (5 * longer <= 6 * shorter && (float)box.cells >= $blot * (float)(tall * wide)) {
            return 0;
        }
        kn_scale(&sheet, sign, level, noise, &box, rows, columns);
        kn_stroke(rows, columns);
        kn_write(image, rows, columns);
    }
    return 1;
}

