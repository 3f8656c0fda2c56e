// The pad: strokes and pictures, kept as what they are, in the model's pixels, so that they can be painted at any size.

/**
 * A pad on a canvas, for mouse, pen, finger and keys.
 *
 * Undo takes back the newest stroke, picture or clearing; what is seen is what came after the last picture or
 * clearing, and a stroke puts a picture away. `changed()` is called when that is another, `moved()` when only the pen
 * is elsewhere, `said(words)` for what a reader of screens should hear.
 */
function makePad(canvas, rows, columns, { changed, moved, said }) {
  const side = Math.max(rows, columns);
  const history = [];
  let stroke = null;
  let pen = null;
  const pad = { thickness: 2, current, undo, clear, place, paint, show };

  /** What is on the pad: `{ picture }` or `{ strokes }`. */
  function current() {
    const newest = history[history.length - 1];
    if (newest?.picture) return { picture: newest.picture, strokes: [] };
    const barrier = history.findLastIndex((item) => !item.points);
    return { picture: null, strokes: history.slice(barrier + 1) };
  }

  function begin(point) {
    stroke = { points: [point], thickness: pad.thickness };
    history.push(stroke);
    changed();
  }

  function extend(point) {
    const last = stroke.points[stroke.points.length - 1];
    if (Math.hypot(point.x - last.x, point.y - last.y) < side / 1000) return;
    stroke.points.push(point);
    changed();
  }

  function end() {
    if (!stroke) return;
    stroke = null;
    changed();
  }

  function undo() {
    end();
    if (history.pop()) changed();
  }

  function clear() {
    end();
    const { picture, strokes } = current();
    if (!picture && !strokes.length) return;
    history.push({ cleared: true });
    changed();
  }

  /** Put a picture on the pad. */
  function place(picture) {
    end();
    pen = null;
    history.push({ picture });
    changed();
  }

  /** Paint what is on the pad in some colours, `scale` dots for a pixel of the model's. */
  function paint(context, scale, { ink, paper }) {
    const { picture, strokes } = current();
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = paper;
    context.fillRect(0, 0, context.canvas.width, context.canvas.height);
    context.setTransform(scale, 0, 0, scale, 0, 0);
    if (picture) paintPicture(context, picture.drawn, rows, columns);
    context.strokeStyle = context.fillStyle = ink;
    strokes.forEach((one) => paintStroke(context, one));
  }

  /** Paint it on the pad itself, as large as it is on the screen, with the pen if keys move it. */
  function show(colours) {
    const scale = canvas.width / columns;
    const context = canvas.getContext("2d");
    paint(context, scale, colours);
    if (pen && document.activeElement === canvas) paintPen(context, pen, pad.thickness, stroke, colours);
  }

  function where(event) {
    const box = canvas.getBoundingClientRect();
    return {
      x: ((event.clientX - box.left - canvas.clientLeft) / canvas.clientWidth) * columns,
      y: ((event.clientY - box.top - canvas.clientTop) / canvas.clientHeight) * rows,
    };
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !event.isPrimary) return;
    canvas.setPointerCapture(event.pointerId);
    end();
    pen = null;
    begin(where(event));
    stroke.pointer = event.pointerId;
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!stroke || stroke.pointer !== event.pointerId) return;
    const between = event.getCoalescedEvents?.() ?? [];
    (between.length ? between : [event]).forEach((one) => extend(where(one)));
  });
  for (const over of ["pointerup", "pointercancel", "lostpointercapture"]) {
    canvas.addEventListener(over, (event) => {
      if (stroke && stroke.pointer === event.pointerId) end();
    });
  }

  // A stroke is no gesture: no zoom by a second tap, no fling that would swallow the next one.
  canvas.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());

  const held = new Set();
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  function move(step) {
    pen ??= { x: columns / 2, y: rows / 2 };
    const way = [...held].reduce(([x, y], key) => [x + arrows[key][0], y + arrows[key][1]], [0, 0]);
    pen = {
      x: Math.min(columns, Math.max(0, pen.x + way[0] * step)),
      y: Math.min(rows, Math.max(0, pen.y + way[1] * step)),
    };
    if (stroke) extend(pen);
    moved();
  }

  function lift() {
    if (!stroke) return;
    end();
    said("Pen up");
  }

  function toggle() {
    if (stroke) return lift();
    pen ??= { x: columns / 2, y: rows / 2 };
    begin(pen);
    said("Pen down");
  }

  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in arrows) {
      held.add(event.key);
      move((side / 28) * (event.shiftKey ? 4 : 1));
    } else if (event.key === " ") {
      if (!event.repeat) toggle();
    } else if (event.key === "Escape") {
      lift();
    } else {
      return;
    }
    event.preventDefault();
  });
  canvas.addEventListener("keyup", (event) => held.delete(event.key));
  canvas.addEventListener("blur", () => {
    held.clear();
    lift();
    moved();
  });
  canvas.addEventListener("focus", () => moved());
  return pad;
}

/** A line through points, smooth in between, or a dot. */
function paintStroke(context, { points, thickness }) {
  const [first] = points;
  context.beginPath();
  if (points.length === 1) {
    context.arc(first.x, first.y, thickness / 2, 0, 2 * Math.PI);
    context.fill();
    return;
  }
  context.lineWidth = thickness;
  context.lineCap = context.lineJoin = "round";
  context.moveTo(first.x, first.y);
  for (let i = 1; i < points.length - 1; i++) {
    const [here, next] = [points[i], points[i + 1]];
    context.quadraticCurveTo(here.x, here.y, (here.x + next.x) / 2, (here.y + next.y) / 2);
  }
  const last = points[points.length - 1];
  context.lineTo(last.x, last.y);
  context.stroke();
}

/** A picture, as large as fits. */
function paintPicture(context, drawn, rows, columns) {
  const scale = Math.min(columns / drawn.width, rows / drawn.height);
  const [width, height] = [drawn.width * scale, drawn.height * scale];
  context.imageSmoothingEnabled = drawn.width > columns * 4;
  context.drawImage(drawn, (columns - width) / 2, (rows - height) / 2, width, height);
}

/** The pen that keys move: a ring as wide as its stroke, filled while it is down. */
function paintPen(context, { x, y }, thickness, down, { accent }) {
  context.beginPath();
  context.arc(x, y, thickness / 2, 0, 2 * Math.PI);
  context.lineWidth = thickness / 6;
  context.strokeStyle = context.fillStyle = accent;
  if (down) context.fill();
  context.stroke();
}
