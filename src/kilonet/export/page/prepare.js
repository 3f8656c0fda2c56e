// From any picture to the image that the model was trained on: what preprocess.py does, in the same steps.

/** A picture, grey, RGB or RGBA bytes, as the model's image, uint8, C x H x W; null if nothing is drawn on it. */
function prepare(pixels, width, height, [channels, rows, columns], preparation) {
  const image = new Uint8Array(channels * rows * columns);
  const depth = pixels.length / (width * height);
  let ink = 0;
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      const top = Math.floor((y * height) / rows), bottom = Math.floor(((y + 1) * height) / rows);
      const left = Math.floor((x * width) / columns), right = Math.floor(((x + 1) * width) / columns);
      let sum = 0;
      for (let v = top; v < bottom; v++) for (let u = left; u < right; u++) sum += pixels[(v * width + u) * depth];
      const mean = Math.round(sum / ((bottom - top) * (right - left)));
      ink = Math.max(ink, mean);
      for (let c = 0; c < channels; c++) image[(c * rows + y) * columns + x] = mean;
    }
  }
  return ink < 16 ? null : image;
}
