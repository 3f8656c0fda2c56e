// The net: raw pixels to logits, layer by layer, each layer's maps kept for who wants to look at them.

/** A net from its description and its weights: one list of float32, each convolution's weights and then its biases. */
function makeNet({ shape, mean, std, layers }, weights) {
  const size = shape[0] * shape[1] * shape[2];
  const area = shape[1] * shape[2];
  const input = new Float32Array(size);
  const maps = layers.map(({ out }) => new Float32Array(out[0] * out[1] * out[2]));
  let used = 0;
  const take = (count) => weights.subarray(used, (used += count));
  const steps = layers.map((layer) => (layer.kind === "conv" ? convolution(layer, take) : pool(layer)));
  const last = maps[maps.length - 1];

  /** The maps that each layer makes of one image, uint8, C x H x W; the last ones are the logits. */
  function run(pixels) {
    for (let i = 0; i < size; i++) {
      const channel = Math.floor(i / area);
      input[i] = (pixels[i] - mean[channel]) / std[channel];
    }
    steps.forEach((step, i) => step(i ? maps[i - 1] : input, maps[i]));
    return maps;
  }

  /** The logits, float32, n x K, of n images, uint8, n x C x H x W. */
  function logits(images) {
    if (!images.length || images.length % size) {
      throw new RangeError(`${images.length} bytes are no whole number of images of ${shape.join(" x ")}`);
    }
    const n = images.length / size;
    const all = new Float32Array(n * last.length);
    for (let i = 0; i < n; i++) {
      run(images.subarray(i * size, (i + 1) * size));
      all.set(last, i * last.length);
    }
    return all;
  }

  return { run, logits };
}

/**
 * A convolution as a product of matrices: what each tap of the kernel meets at each place is gathered first.
 *
 * Four taps are summed at a time, those behind the last one being zero. Sums are in double precision.
 */
function convolution({ given, out, kernel, stride, padding, groups, relu }, take) {
  const [channels, height, width] = given;
  const depth = channels / groups;
  const each = out[0] / groups;
  const places = out[1] * out[2];
  const taps = depth * kernel[0] * kernel[1];
  const fours = Math.ceil(taps / 4);
  const weight = new Float64Array(out[0] * fours * 4);
  for (let channel = 0; channel < out[0]; channel++) weight.set(take(taps), channel * fours * 4);
  const bias = take(out[0]);

  const beyond = depth * height * width;
  const source = new Int32Array(fours * 4 * places).fill(beyond);
  let at = 0;
  for (let channel = 0; channel < depth; channel++) {
    for (let row = 0; row < kernel[0]; row++) {
      for (let column = 0; column < kernel[1]; column++) {
        for (let place = 0; place < places; place++, at++) {
          const y = Math.floor(place / out[2]) * stride[0] + row - padding[0];
          const x = (place % out[2]) * stride[1] + column - padding[1];
          const inside = y >= 0 && y < height && x >= 0 && x < width;
          if (inside) source[at] = (channel * height + y) * width + x;
        }
      }
    }
  }

  const group = new Float64Array(beyond + 1);
  const met = new Float64Array(source.length);
  const sums = new Float64Array(places);
  return (from, to) => {
    for (let g = 0; g < groups; g++) {
      group.set(from.subarray(g * beyond, (g + 1) * beyond));
      for (let i = 0; i < source.length; i++) met[i] = group[source[i]];
      for (let channel = g * each; channel < (g + 1) * each; channel++) {
        sums.fill(bias[channel]);
        addProducts(sums, weight, channel * fours * 4, met, fours);
        for (let i = 0; i < places; i++) to[channel * places + i] = relu && sums[i] < 0 ? 0 : sums[i];
      }
    }
  };
}

/** Add, at each place, what was met there times the weights from `first` on, four at a time. */
function addProducts(sums, weight, first, met, fours) {
  const places = sums.length;
  for (let four = 0; four < fours; four++) {
    const at = first + 4 * four;
    const [a, b, c, d] = [weight[at], weight[at + 1], weight[at + 2], weight[at + 3]];
    const row = 4 * four * places;
    for (let i = row; i < row + places; i++) {
      sums[i - row] += a * met[i] + b * met[i + places] + c * met[i + 2 * places] + d * met[i + 3 * places];
    }
  }
}

/** The greatest or the mean value under a window. */
function pool({ kind, given, out, kernel, stride, relu }) {
  const [channels, rows, columns] = out;
  const [, height, width] = given;
  const [tall, wide] = kernel;
  const [down, across] = stride;
  const greatest = kind === "max";

  function under(from, first) {
    let most = from[first];
    let sum = 0;
    for (let row = 0; row < tall; row++) {
      for (let i = first + row * width; i < first + row * width + wide; i++) {
        sum += from[i];
        if (from[i] > most) most = from[i];
      }
    }
    return greatest ? most : sum / (tall * wide);
  }

  return (from, to) => {
    let at = 0;
    for (let channel = 0; channel < channels; channel++) {
      for (let row = 0; row < rows; row++) {
        for (let column = 0; column < columns; column++) {
          const value = under(from, (channel * height + row * down) * width + column * across);
          to[at++] = relu && value < 0 ? 0 : value;
        }
      }
    }
  };
}

/** The probabilities, 0 to 1, that logits stand for. */
function softmax(logits) {
  const most = Math.max(...logits);
  const parts = Array.from(logits, (logit) => Math.exp(logit - most));
  const whole = parts.reduce((sum, part) => sum + part, 0);
  return parts.map((part) => part / whole);
}
