// The page put together: pad and pictures, through preparation and net, to the answer and the maps.

function start() {
  const element = (id) => document.getElementById(id);
  const model = JSON.parse(element("net").textContent);
  const net = makeNet(model, floats(element("weights").textContent));
  const [, rows, columns] = model.shape;
  const side = Math.max(rows, columns);
  const canvas = element("pad");
  canvas.style.aspectRatio = `${columns} / ${rows}`;
  canvas.parentElement.style.setProperty("--aspect", columns / rows);
  const status = element("status");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const ready = (pixels, width, height) => prepare(pixels, width, height, model.shape, model.preparation);

  const pad = makePad(canvas, rows, columns, {
    changed: () => {
      status.textContent = "";
      refresh();
    },
    moved: () => refresh(),
    said: (words) => (element("live").textContent = words),
  });
  const answer = makeAnswer(
    {
      verdict: element("verdict"),
      certainty: element("certainty"),
      bars: element("bars"),
      seen: element("seen"),
      live: element("live"),
    },
    model,
  );
  const maps = makeMaps(element("layers"), model.layers);

  // Strokes as the preparation gets them: white on black, whatever the theme.
  const plain = document.createElement("canvas");
  const scale = Math.max(280, 2 * side) / side;
  [plain.height, plain.width] = [Math.round(rows * scale), Math.round(columns * scale)];
  const plainContext = plain.getContext("2d", { willReadFrequently: true });

  function image() {
    const { picture, strokes } = pad.current();
    if (picture) return picture.image;
    if (!strokes.length) return null;
    pad.paint(plainContext, scale, { ink: "white", paper: "black" });
    return ready(plainContext.getImageData(0, 0, plain.width, plain.height).data, plain.width, plain.height);
  }

  function update() {
    waiting = 0;
    showPad();
    const seen = image();
    const found = seen && net.run(seen);
    answer.show(seen, found && softmax(found[found.length - 1]));
    maps.show(found);
  }
  let waiting = 0;
  function refresh() {
    waiting ||= requestAnimationFrame(update);
  }

  function showPad() {
    const style = getComputedStyle(canvas);
    const colour = (name) => style.getPropertyValue(name).trim();
    pad.show({ ink: colour("--ink"), paper: colour("--paper"), accent: colour("--accent") });
    const { picture, strokes } = pad.current();
    element("invitation").hidden = Boolean(picture || strokes.length);
  }

  listenForPictures(element("choose"), element("file"), {
    found: (drawn, pixels, width, height) => pad.place({ drawn, image: ready(pixels, width, height) }),
    refused: (words) => (status.textContent = words),
    hovered: (over) => canvas.classList.toggle("hovered", over),
  });

  const thickness = element("thickness");
  const setThickness = () => (pad.thickness = (Number(thickness.value) * side) / 28);
  thickness.value = Math.max(2.2, (28 * 0.9) / side);
  thickness.addEventListener("input", setThickness);
  setThickness();

  element("undo").addEventListener("click", pad.undo);
  element("clear").addEventListener("click", pad.clear);
  document.addEventListener("keydown", (event) => {
    const chord = (event.ctrlKey || event.metaKey) && !event.shiftKey && !event.altKey;
    const undo = chord && event.key.toLowerCase() === "z";
    const clear = event.key === "Delete" || event.key === "Backspace";
    if (undo) pad.undo();
    if (clear) pad.clear();
    if (undo || clear) event.preventDefault();
  });

  function fit() {
    canvas.width = Math.round(canvas.clientWidth * window.devicePixelRatio);
    canvas.height = Math.round(canvas.clientHeight * window.devicePixelRatio);
    showPad();
  }
  new ResizeObserver(fit).observe(canvas);
  window.addEventListener("resize", () => {
    fit(); // zooming may change the dots of a pixel alone
    refresh();
  });
  dark.addEventListener("change", showPad);

  window.kilonet = Object.freeze({ logits: net.logits, prepare: ready, shape: model.shape, classes: model.classes });
  update();
}

/** Little-endian float32 numbers from base64. */
function floats(text) {
  const bytes = Uint8Array.from(atob(text.trim()), (letter) => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Float32Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
}

start();
