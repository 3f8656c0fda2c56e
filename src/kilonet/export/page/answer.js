// The answer: the class, every class's probability as a bar, and the image that the model sees.

const NOTHING = "Nothing drawn";

/** A view of the answer, in the page's elements; `show(image, probabilities)` and `show(null)` change it. */
function makeAnswer({ verdict, certainty, bars, seen, live }, { shape, classes }) {
  const rows = classes.map((name) => makeBar(bars, name));
  const longest = Math.max(...classes.map((name) => [...name].length));
  bars.style.setProperty("--names", `${Math.min(Math.max(longest, 1), 12) + 0.5}ch`);
  bars.classList.toggle("many", classes.length > 12);
  verdict.closest("section").classList.toggle("worded", longest > 2);
  [seen.height, seen.width] = shape.slice(1);
  let timer = 0;
  let told = NOTHING;

  /** Say it once it has stood still for a while. */
  function tell(words) {
    clearTimeout(timer);
    timer = setTimeout(() => {
      if (words !== told) live.textContent = told = words;
    }, 800);
  }

  function show(image, probabilities) {
    paintImage(seen, image, shape);
    const best = image ? probabilities.indexOf(Math.max(...probabilities)) : -1;
    verdict.textContent = image ? classes[best] : NOTHING;
    verdict.classList.toggle("nothing", !image);
    verdict.classList.toggle("short", Boolean(image) && [...classes[best]].length < 3);
    certainty.textContent = image ? percent(probabilities[best]) : "";
    rows.forEach((row, i) => row(image ? probabilities[i] : null, i === best));
    tell(image ? `${classes[best]}, ${percent(probabilities[best])}` : NOTHING);
  }

  return { show };
}

/** A class's row; what comes back sets its probability, or null for none, and whether it is the greatest. */
function makeBar(list, name) {
  const row = document.createElement("li");
  const [label, track, fill, number] = ["name", "track", "fill", "number"].map((role) => {
    const element = document.createElement("span");
    element.className = role;
    return element;
  });
  label.textContent = label.title = name;
  label.dir = "auto";
  track.append(fill);
  row.append(label, track, number);
  list.append(row);
  return (probability, best) => {
    row.classList.toggle("best", best);
    fill.style.transform = `translateX(${100 * ((probability ?? 0) - 1)}%)`;
    number.textContent = probability === null ? "–" : percent(probability);
  };
}

const percent = (probability) => `${(100 * probability).toFixed(1)} %`;

/** The model's image, dot by dot; black if there is none. */
function paintImage(canvas, image, [channels, height, width]) {
  const dots = new ImageData(width, height);
  const area = height * width;
  for (let i = 0; i < area; i++) {
    for (let c = 0; c < 3; c++) dots.data[4 * i + c] = image ? image[channels === 3 ? c * area + i : i] : 0;
    dots.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(dots, 0, 0);
}
