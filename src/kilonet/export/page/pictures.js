// Pictures from outside: dropped, pasted or chosen files to bytes.

const MOST_DOTS = 2 ** 24; // a canvas on a phone may have no more
const SHOWN_DOTS = 2 ** 20;

/**
 * Listen for pictures that are dropped, pasted or chosen. `found(drawn, pixels, width, height)` gets each, on a canvas
 * to show and as RGBA bytes; `refused(words)` a line on what was no picture.
 */
function listenForPictures(button, chooser, { found, refused, hovered }) {
  async function take(file) {
    const name = file.name ? `“${file.name}”` : "What was given";
    let bitmap;
    try {
      bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" });
    } catch {
      refused(`${name} is not a picture that this browser can read.`);
      return;
    }
    const whole = painted(bitmap, MOST_DOTS);
    bitmap.close();
    const context = whole.getContext("2d");
    const seen = context.getImageData(0, 0, whole.width, whole.height);
    seen.data.set(onPaper(seen.data));
    context.putImageData(seen, 0, 0);
    found(painted(whole, SHOWN_DOTS), seen.data, whole.width, whole.height);
  }

  function takeFirst(files, otherwise) {
    const all = [...(files ?? [])];
    const file = all.find(({ type }) => type.startsWith("image/")) ?? all[0];
    if (file) take(file);
    else refused(otherwise);
  }

  button.addEventListener("click", () => chooser.click());
  chooser.addEventListener("change", () => {
    if (chooser.files.length) takeFirst(chooser.files, "");
    chooser.value = "";
  });
  document.addEventListener("paste", (event) => {
    event.preventDefault();
    takeFirst(event.clipboardData?.files, "The clipboard holds no picture.");
  });
  for (const name of ["dragenter", "dragover"]) {
    document.addEventListener(name, (event) => {
      event.preventDefault();
      event.dataTransfer.dropEffect = "copy";
      hovered(true);
    });
  }
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) hovered(false);
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    hovered(false);
    takeFirst(event.dataTransfer.files, "That was no file: drop a picture file.");
  });
}

/** A picture on a canvas; one of more than so many dots is made smaller. */
function painted(picture, most) {
  const scale = Math.min(1, Math.sqrt(most / (picture.width * picture.height)));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.floor(picture.width * scale));
  canvas.height = Math.max(1, Math.floor(picture.height * scale));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  return canvas;
}
