// What each layer's channels see, as small pictures: black is nothing, bright is much, blue is below zero.

const GAP = 4;

/** A view of every layer's maps, added to an element; `show(maps)` changes it, `show(null)` empties it. */
function makeMaps(list, layers) {
  const views = layers.map((layer, i) => makeView(list, layer, i, i === layers.length - 1));
  const byCanvas = new Map(views.map((view) => [view.canvas, view]));
  let newest = null;
  let pause = 0;
  const paint = (view) => view.paint(newest && newest[view.index]);

  const near = new IntersectionObserver(
    (entries) =>
      entries.forEach(({ target, isIntersecting }) => {
        const view = byCanvas.get(target);
        view.near = isIntersecting;
        if (isIntersecting) paint(view);
      }),
    { rootMargin: "200px" },
  );
  const size = new ResizeObserver((entries) => entries.forEach(({ target }) => paint(byCanvas.get(target))));
  views.forEach(({ canvas }) => {
    near.observe(canvas);
    size.observe(canvas);
  });
  return {
    show(maps) {
      newest = maps;
      views.filter((view) => view.near).forEach(paint);
      clearTimeout(pause);
      pause = setTimeout(() => views.filter((view) => !view.near).forEach(paint), 200);
    },
  };
}

function makeView(list, layer, index, last) {
  const [channels, height, width] = layer.out;
  const item = document.createElement("li");
  const title = document.createElement("h3");
  const words = document.createElement("p");
  const canvas = document.createElement("canvas");
  const count = channels === 1 ? "1 map" : `${channels} maps`;
  title.textContent = `${index + 1}. ${nameOf(layer)}`;
  const single = last ? `${channels} values, one a class` : `${channels} values`;
  words.textContent = height * width === 1 ? single : `${count} of ${height} × ${width}`;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${title.textContent}: ${words.textContent}`);
  const head = document.createElement("div");
  head.append(title, words);
  item.append(head, canvas);
  list.append(item);

  const small = document.createElement("canvas");
  [small.height, small.width] = [height, width];
  const dots = new ImageData(width, height);

  function paint(maps) {
    const { across, tile } = layOut(layer.out, canvas.clientWidth);
    const down = Math.ceil(channels / across);
    const dense = window.devicePixelRatio;
    const tall = down * (tile.height + GAP) - GAP;
    canvas.style.height = `${tall}px`;
    canvas.width = Math.max(1, Math.round(canvas.clientWidth * dense));
    canvas.height = Math.max(1, Math.round(tall * dense));
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    const most = maps ? maps.reduce((found, value) => Math.max(found, Math.abs(value)), 0) : 0;
    for (let channel = 0; channel < channels; channel++) {
      colour(dots.data, maps, channel * height * width, most);
      small.getContext("2d").putImageData(dots, 0, 0);
      const x = Math.round((channel % across) * (tile.width + GAP) * dense);
      const y = Math.round(Math.floor(channel / across) * (tile.height + GAP) * dense);
      context.drawImage(small, x, y, Math.round(tile.width * dense), Math.round(tile.height * dense));
    }
  }

  return { index, canvas, paint, near: false };
}

/**
 * How many maps lie side by side, and how large one is, in CSS pixels: a whole number for each of its dots. As many
 * rows as maps of a size that can be looked at need, all about as long, the maps then as large as the room allows.
 */
function layOut([channels, height, width], room) {
  const side = Math.max(height, width);
  const wanted = side === 1 ? 18 : side < 20 ? 38 : 52;
  const small = Math.max(1, Math.round(wanted / side));
  const fitting = Math.max(1, Math.floor((room + GAP) / (width * small + GAP)));
  const across = Math.ceil(channels / Math.ceil(channels / fitting));
  const most = Math.floor(((room + GAP) / across - GAP) / width);
  const scale = Math.max(1, Math.min(most, Math.floor((1.6 * wanted) / side)));
  return { across, tile: { height: height * scale, width: width * scale } };
}

const BELOW = [[0, 0, 0], [60, 88, 120], [150, 185, 220]];
const ABOVE = [[0, 0, 0], [214, 88, 24], [255, 240, 214]];

/** Set dots by the values from one on; `most` is shown brightest. */
function colour(dots, values, first, most) {
  for (let i = 0; i < dots.length / 4; i++) {
    const part = values && most ? values[first + i] / most : 0;
    const ramp = part < 0 ? BELOW : ABOVE;
    const at = 2 * Math.abs(part) ** 0.7;
    const [low, high] = at < 1 ? [ramp[0], ramp[1]] : [ramp[1], ramp[2]];
    const rest = at < 1 ? at : at - 1;
    for (let c = 0; c < 3; c++) dots[4 * i + c] = low[c] + (high[c] - low[c]) * rest;
    dots[4 * i + 3] = 255;
  }
}

/** A layer in words. */
function nameOf({ kind, given, out, kernel, stride, groups, relu }) {
  const window_ = `${kernel[0]} × ${kernel[1]}`;
  const whole = kernel[0] === given[1] && kernel[1] === given[2] && out[1] * out[2] === 1;
  const then = relu ? ", then ReLU" : "";
  if (kind !== "conv") {
    const name = kind === "max" ? "Maximum" : "Mean";
    return `${name} ${whole ? "over the whole map" : `of ${window_}`}${then}`;
  }
  if (whole) return `Fully connected${then}`;
  const apart = groups === given[0] ? " of each channel" : ` in ${groups} groups`;
  const what = `Convolution${groups === 1 ? "" : apart}`;
  const step = stride[0] * stride[1] === 1 ? "" : `, step ${stride[0] === stride[1] ? stride[0] : stride.join(" × ")}`;
  return `${what}, ${window_}${step}${then}`;
}
