// From any picture to the image that the model was trained on: what preprocess.py and ink.py do, step by step.

const BOX = 20 / 28;
const [COARSE, FINE] = [64, 128];
const FAINTEST = 10;
const [ROUNDS, SETTLED] = [10, 0.1];
const EDGE = 0.4;
const SPECK = 0.05;
const OUTER = 0.02;
const SMALLEST = 3;
const [BAR, BLOT] = [0.9, 0.77];
const [CLEAR, SOLID] = [0.15, 0.85];
const GRAIN = 3;
const [SMALL, LARGE, OFF] = [0.53, 0.9, 1 / 9];
const LONGEST = 64;
const DEVIATION = 1.4826;
const [THIN, THICK] = [0.84, 0.91];
const [SPREAD, TIMES] = [0.1, 8];
const TIE = 1e-3;

/** A picture, grey, RGB or RGBA bytes, as the model's image, uint8, C x H x W; null if nothing is drawn on it. */
function prepare(pixels, width, height, [channels, rows, columns], preparation) {
  const depth = pixels.length / (width * height);
  if (![1, 3, 4].includes(depth)) throw new RangeError(`${pixels.length} bytes are no picture of ${width} x ${height}`);
  const opaque = depth === 4 ? onPaper(pixels) : pixels;
  const planes = (channels === 1 ? [luma] : [0, 1, 2].map(channel)).map((shade) => {
    const values = new Uint8Array(width * height);
    for (let i = 0; i < values.length; i++) values[i] = depth === 1 ? opaque[i] : shade(opaque, i * depth);
    return { height, width, values };
  });
  if (Math.max(width, height) > LONGEST * Math.min(width, height)) return null;
  if (Math.max(...planes.map(range)) < FAINTEST) return null;
  if (channels === 1 && preparation === "digit") return digit(planes[0], rows, columns);
  const image = new Uint8Array(channels * rows * columns);
  planes.forEach((plane, c) => image.set(bytes(resized(plane, rows, columns).values), c * rows * columns));
  return image;
}

const luma = (pixels, i) => (19595 * pixels[i] + 38470 * pixels[i + 1] + 7471 * pixels[i + 2] + 32768) >> 16;
const channel = (c) => (pixels, i) => pixels[i + c];
const sumOf = (values) => values.reduce((sum, value) => sum + value, 0);

/** RGBA bytes without transparency: on white paper; on black, if what shows is brighter than half grey. */
function onPaper(pixels) {
  let [ink, shown] = [0, 0];
  for (let i = 0; i < pixels.length; i += 4) {
    ink += luma(pixels, i) * pixels[i + 3];
    shown += pixels[i + 3];
  }
  const opaque = new Uint8Array(pixels);
  if (shown === (255 / 4) * pixels.length) return opaque;
  const paper = ink > 127 * shown ? 0 : 255;
  for (let i = 0; i < pixels.length; i++) {
    const alpha = pixels[i | 3];
    opaque[i] = (i & 3) === 3 ? 255 : Math.round((pixels[i] * alpha + paper * (255 - alpha)) / 255);
  }
  return opaque;
}

function range({ values }) {
  let [least, most] = [255, 0];
  for (const value of values) {
    if (value < least) least = value;
    if (value > most) most = value;
  }
  return most - least;
}

/** Values at another size: means over areas where that is smaller, lines between centres where larger. */
function resized({ height, width, values }, rows, columns) {
  const down = shares(height, rows);
  const across = shares(width, columns);
  const tall = new Float64Array(rows * width);
  const small = new Float64Array(rows * columns);
  down.forEach(({ first, parts }, row) => {
    for (let x = 0; x < width; x++) {
      let sum = 0;
      for (let i = 0; i < parts.length; i++) sum += parts[i] * values[(first + i) * width + x];
      tall[row * width + x] = sum;
    }
  });
  for (let row = 0; row < rows; row++) {
    across.forEach(({ first, parts }, column) => {
      small[row * columns + column] = sumOf(parts.map((part, i) => part * tall[row * width + first + i]));
    });
  }
  return { height: rows, width: columns, values: small };
}

/** What `given` values count in each of `wanted`: the first that does, and its part and the next ones'. */
function shares(given, wanted) {
  const step = given / wanted;
  return Array.from({ length: wanted }, (_, place) => {
    const start = place * step;
    const centre = Math.min(Math.max((place + 0.5) * step - 0.5, 0), given - 1);
    const first = Math.floor(step >= 1 ? start : centre);
    const end = Math.min(given, step >= 1 ? Math.ceil(start + step) : first + 2);
    const part =
      step >= 1
        ? (cell) => Math.max(Math.min(start + step, cell + 1) - Math.max(start, cell), 0) / step
        : (cell) => Math.max(1 - Math.abs(centre - cell), 0);
    return { first, parts: Array.from({ length: end - first }, (_, i) => part(first + i)) };
  });
}

const bytes = (values) => Uint8Array.from(values, (value) => Math.min(Math.max(Math.floor(value + 0.5), 0), 255));

/** The ink on a picture, bright on black, scaled and centred as MNIST's digits are. */
function digit(picture, rows, columns) {
  const ready = picture.height === rows && picture.width === columns && asItIs(picture);
  if (ready) return ready;
  const coarse = gridOver(picture, { top: 0, left: 0, height: picture.height, width: picture.width }, COARSE);
  const light = paperUnder(coarse);
  const away = awayFrom(light, coarse);
  const found = find(away, DEVIATION * median(away.map(Math.abs)), coarse) ?? findAmongSteps(away, coarse);
  if (!found) return null;
  const { sign, mask, level, noise } = found;
  const fine = gridOver(picture, windowAround(coarse, mask), FINE);
  const ink = awayFrom(light, fine).map((away) => sign * away);
  if (!ink.some((value) => value > EDGE * level)) return null;
  const fineLevel = levelOf(ink, EDGE * level);
  const drawn = ink.map((value) => (value > EDGE * fineLevel ? 1 : 0));
  const box = inside(drawn, fine);
  if (isBlot(cut(drawn, fine, box))) return null;
  const shades = cut(ink, fine, box);
  const grain = (noise * coarse.size) / fine.size / fineLevel;
  const clear = Math.min(Math.max(CLEAR, GRAIN * grain), EDGE);
  shades.values = shades.values.map((value) => clip((value / fineLevel - clear) / (SOLID - clear), 0, 1));
  return centred(shades, rows, columns);
}

const clip = (value, least, most) => Math.min(Math.max(value, least), most);

function median(values) {
  const sorted = Float64Array.from(values).sort();
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/** A picture whose border is mostly black; or white, then turned to black; else null. */
function asItIs({ height, width, values }) {
  const border = [...values.subarray(0, width), ...values.subarray((height - 1) * width)];
  for (let row = 1; row < height - 1; row++) border.push(values[row * width], values[row * width + width - 1]);
  const ground = median(border);
  const ready = ground === 0 ? values : ground === 255 ? values.map((value) => 255 - value) : null;
  if (!ready?.some((value) => value > 255 * EDGE)) return null;
  const box = inside(ready.map((value) => (value > 255 * EDGE ? 1 : 0)), { rows: height, columns: width });
  const extent = Math.max((box.bottom - box.top) / height, (box.right - box.left) / width);
  let [total, down, across] = [0, 0, 0];
  ready.forEach((value, i) => {
    total += value;
    down += value * Math.floor(i / width);
    across += value * (i % width);
  });
  const near = (sum, side) => Math.abs(sum / total - (side - 1) / 2) <= side * OFF;
  return SMALL <= extent && extent <= LARGE && near(down, height) && near(across, width) ? ready : null;
}

/** Square cells over a window, at most so many a side: their mean brightness, rounded. */
function gridOver({ width, values }, window_, most) {
  const size = Math.min(Math.ceil(Math.max(window_.height, window_.width) / most), window_.height, window_.width);
  const [rows, columns] = [Math.floor(window_.height / size), Math.floor(window_.width / size)];
  const sums = new Float64Array(rows * columns);
  for (let y = 0; y < rows * size; y++) {
    const from = (window_.top + y) * width + window_.left;
    const to = Math.floor(y / size) * columns;
    for (let column = 0; column < columns; column++) {
      let sum = 0;
      for (let i = from + column * size; i < from + (column + 1) * size; i++) sum += values[i];
      sums[to + column] += sum;
    }
  }
  const area = size * size;
  return { window: window_, size, rows, columns, values: sums.map((sum) => Math.floor((2 * sum + area) / (2 * area))) };
}

/** The window around some cells and one more on each side, as far as the grid's goes. */
function windowAround({ window: window_, size, rows, columns }, mask) {
  const box = inside(mask, { rows, columns });
  const [top, left] = [Math.max(0, box.top - 1) * size, Math.max(0, box.left - 1) * size];
  const bottom = Math.min(window_.height, (box.bottom + 1) * size);
  const right = Math.min(window_.width, (box.right + 1) * size);
  return { top: window_.top + top, left: window_.left + left, height: bottom - top, width: right - left };
}

/** The rows and columns from the first to the last with anything in them, ends not included. */
function inside(mask, { rows, columns }) {
  const box = { top: rows, bottom: 0, left: columns, right: 0 };
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      if (!mask[row * columns + column]) continue;
      box.top = Math.min(box.top, row);
      box.bottom = row + 1;
      box.left = Math.min(box.left, column);
      box.right = Math.max(box.right, column + 1);
    }
  }
  return box;
}

/** The cells in a box. */
function cut(values, { columns }, { top, bottom, left, right }) {
  const [height, width] = [bottom - top, right - left];
  const cells = new Float64Array(height * width);
  for (let row = 0; row < height; row++) {
    const first = (top + row) * columns + left;
    cells.set(values.subarray(first, first + width), row * width);
  }
  return { height, width, values: cells };
}

/** The centres of a grid's cells, -1 to 1 over the picture. */
function coordinates({ window: { top, left }, size, rows, columns }, picture) {
  return {
    x: Array.from({ length: columns }, (_, i) => (2 * (left + (i + 0.5) * size)) / picture.width - 1),
    y: Array.from({ length: rows }, (_, i) => (2 * (top + (i + 0.5) * size)) / picture.height - 1),
  };
}

/**
 * How bright the paper is at the cells of any grid: a + b x + c y + d x^2 + e x y + f y^2, the surface that most cells
 * of a picture's grid lie near, by least squares reweighted in rounds.
 */
function paperUnder(grid) {
  const { x, y } = coordinates(grid, grid.window);
  const [terms, values] = [[], []];
  for (let row = 0; row < grid.rows; row += 2) {
    for (let column = 0; column < grid.columns; column += 2) {
      const [u, v] = [x[column], y[row]];
      terms.push([1, u, v, u * u, u * v, v * v]);
      values.push(grid.values[row * grid.columns + column]);
    }
  }
  const middle = median(values);
  let away = values.map((value) => value - middle);
  let fitted = new Array(6).fill(0);
  for (let round = 0; round < ROUNDS; round++) {
    const far = Math.max(4, 2 * median(away.map(Math.abs)));
    const weights = away.map((one) => 1 / (1 + (one / far) ** 2));
    const before = fitted;
    fitted = solved(...normalEquations(terms, values, weights));
    if (fitted.reduce((sum, term, i) => sum + (term - before[i]) ** 2, 0) < SETTLED ** 2) break;
    away = values.map((value, i) => value - terms[i].reduce((sum, term, j) => sum + term * fitted[j], 0));
  }
  const [a, b, c, d, e, f] = fitted;
  return (other) => {
    const { x, y } = coordinates(other, grid.window);
    return Float64Array.from({ length: other.rows * other.columns }, (_, i) => {
      const [u, v] = [x[i % other.columns], y[Math.floor(i / other.columns)]];
      return a + b * u + d * u * u + (c * v + f * v * v) + e * (u * v);
    });
  };
}

/** The matrix and the right side of weighted least squares, with a slight ridge on all terms but the first. */
function normalEquations(terms, values, weights) {
  const matrix = Array.from({ length: 6 }, (_, j) => {
    const row = new Array(6).fill(0);
    if (j) row[j] = values.length / 1000;
    return row;
  });
  const right = new Array(6).fill(0);
  terms.forEach((term, i) => {
    for (let j = 0; j < 6; j++) {
      const weighted = weights[i] * term[j];
      right[j] += weighted * values[i];
      for (let k = 0; k < 6; k++) matrix[j][k] += weighted * term[k];
    }
  });
  return [matrix, right];
}

/** The solution of linear equations, by elimination with the greatest pivot. */
function solved(matrix, right) {
  const rows = matrix.map((row, i) => [...row, right[i]]);
  const n = rows.length;
  for (let i = 0; i < n; i++) {
    let pivot = i;
    for (let j = i + 1; j < n; j++) if (Math.abs(rows[j][i]) > Math.abs(rows[pivot][i])) pivot = j;
    [rows[i], rows[pivot]] = [rows[pivot], rows[i]];
    for (let j = i + 1; j < n; j++) {
      const factor = rows[j][i] / rows[i][i];
      for (let k = i; k <= n; k++) rows[j][k] -= factor * rows[i][k];
    }
  }
  const found = new Array(n).fill(0);
  for (let i = n - 1; i >= 0; i--) {
    let rest = rows[i][n];
    for (let k = i + 1; k < n; k++) rest -= rows[i][k] * found[k];
    found[i] = rest / rows[i][i];
  }
  return found;
}

function awayFrom(light, grid) {
  const paper = light(grid);
  return grid.values.map((value, i) => value - paper[i]);
}

/** The ink, or null, where the noise is what neighbours differ by: ink that covers much of a picture is no noise. */
function findAmongSteps(away, grid) {
  const { rows, columns, values } = grid;
  const steps = [];
  values.forEach((value, i) => {
    if (i + columns < rows * columns) steps.push(Math.abs(values[i + columns] - value));
    if ((i + 1) % columns) steps.push(Math.abs(values[i + 1] - value));
  });
  return steps.length ? find(away, (DEVIATION * median(steps)) / Math.SQRT2, grid) : null;
}

/** The ink among cells' distances from the paper, or null: its sign, 1 or -1, where it is, its level; and the noise. */
function find(away, noise, { rows, columns }) {
  const least = Math.max(FAINTEST, 4 * noise);
  const bright = sumOf(away.filter((value) => value > least));
  const dark = -sumOf(away.filter((value) => value < -least));
  if (Math.max(bright, dark) === 0) return null;
  const sign = bright >= dark ? 1 : -1;
  const ink = away.map((value) => sign * value);
  const level = levelOf(ink, least);
  const edge = Math.max(least, EDGE * level);
  const { labels, n } = labelled(ink.map((value) => (value > edge ? 1 : 0)), rows, columns);
  const mass = new Float64Array(n + 1);
  ink.forEach((value, i) => {
    if (labels[i]) mass[labels[i]] += value;
  });
  const outer = alongEdges(labels, n, rows, columns);
  const inner = mass.map((value, label) => (outer[label] ? 0 : value));
  const counted = Math.max(...inner) >= OUTER * Math.max(...mass) ? inner : mass;
  const heavy = SPECK * Math.max(...counted);
  const taken = Array.from(counted, (value) => value >= heavy);
  const mask = Uint8Array.from(labels, (label) => (label > 0 && taken[label] ? 1 : 0));
  const filled = cut(mask, { columns }, inside(mask, { rows, columns })).values;
  const bar = taken.some((one, label) => one && outer[label]) && sumOf(filled) / filled.length >= BAR;
  return bar || sumOf(mask) < SMALLEST ? null : { sign, mask, level, noise };
}

/** Connected cells, corners included, with a number from 1 on for each part; 0 where nothing is. */
function labelled(mask, rows, columns) {
  const labels = new Int32Array(mask.length);
  let n = 0;
  for (let start = 0; start < mask.length; start++) {
    if (!mask[start] || labels[start]) continue;
    labels[start] = ++n;
    const open = [start];
    while (open.length) {
      const cell = open.pop();
      const [row, column] = [Math.floor(cell / columns), cell % columns];
      for (let y = Math.max(0, row - 1); y <= Math.min(rows - 1, row + 1); y++) {
        for (let x = Math.max(0, column - 1); x <= Math.min(columns - 1, column + 1); x++) {
          const next = y * columns + x;
          if (!mask[next] || labels[next]) continue;
          labels[next] = n;
          open.push(next);
        }
      }
    }
  }
  return { labels, n };
}

/** Which connected parts, by label, take up more than a third of one of the picture's edges. */
function alongEdges(labels, n, rows, columns) {
  const outer = new Array(n + 1).fill(false);
  const edge = (length, place) => {
    const counts = new Int32Array(n + 1);
    for (let i = 0; i < length; i++) counts[labels[place(i)]]++;
    counts.forEach((count, label) => (outer[label] ||= count * 3 > length));
  };
  edge(columns, (i) => i);
  edge(columns, (i) => (rows - 1) * columns + i);
  edge(rows, (i) => i * columns);
  edge(rows, (i) => i * columns + columns - 1);
  return outer;
}

/** Whether what is drawn, given in its box, is about as wide as high and mostly filled. */
function isBlot({ height, width, values }) {
  return 5 * Math.max(height, width) <= 6 * Math.min(height, width) && sumOf(values) / values.length >= BLOT;
}

/** By how much ink differs from its paper: the mean over what differs by more than `least`, weighted by itself. */
function levelOf(ink, least) {
  const strong = ink.filter((value) => value > least);
  return sumOf(strong.map((value) => value * value)) / sumOf(strong);
}

/** Ink, 0 to 1, scaled into the box, its strokes as solid as MNIST's, its centre of mass at the centre. */
function centred(ink, height, width) {
  const scale = Math.min((height * BOX) / ink.height, (width * BOX) / ink.width);
  const [rows, columns] = [ink.height, ink.width].map((n) => Math.max(1, Math.floor(n * scale + 0.5)));
  const small = stroked(resized(ink, rows, columns)).values;
  const total = sumOf(small);
  const y = sumOf(small.map((value, i) => value * Math.floor(i / columns))) / total;
  const x = sumOf(small.map((value, i) => value * (i % columns))) / total;
  const [top, left] = [shift(height, rows, y), shift(width, columns, x)];
  const image = new Uint8Array(height * width);
  const dots = bytes(small.map((value) => 255 * value));
  for (let row = 0; row < rows; row++) {
    image.set(dots.subarray(row * columns, (row + 1) * columns), (top + row) * width + left);
  }
  return image;
}

/** Where what has its centre there begins, so that this comes nearest to the middle and nothing leaves the side. */
const shift = (side, inner, centre) => clip(Math.floor((side - 1) / 2 - centre + 0.5 + TIE), 0, side - inner);

/** Ink, 0 to 1, with its strokes as solid as MNIST's: spread while they are thinner, worn off while thicker. */
function stroked({ height, width, values }) {
  const most = Math.max(...values);
  let ink = values.map((value) => value / most);
  const solidity = () => sumOf(ink.map((value) => value * value)) / sumOf(ink);
  const within = (row, column) => row >= 0 && row < height && column >= 0 && column < width;
  const at = (row, column) => (within(row, column) ? ink[row * width + column] : 0);
  const neighbours = (i) => {
    const [row, column] = [Math.floor(i / width), i % width];
    return at(row - 1, column) + at(row + 1, column) + at(row, column - 1) + at(row, column + 1);
  };
  for (let time = 0; time < TIMES && solidity() < THIN; time++) {
    ink = ink.map((value, i) => Math.min(value + SPREAD * neighbours(i), 1));
  }
  for (let time = 0; time < TIMES && solidity() > THICK; time++) {
    ink = ink.map((value, i) => Math.max(value - SPREAD * (4 - neighbours(i)), 0));
  }
  return { height, width, values: ink };
}
