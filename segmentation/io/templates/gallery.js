"use strict";
(() => {
const CARDS_PER_PAGE = 48;
/** Pictures narrower than this many pixels are enlarged as blocks, not blurred. */
const SMALL_PX = 200;
const WIDE_LINES_PX = 400;
/** The trees that `regionflow recut` takes if it is not told whose. */
const TREES = "hierarchy";
const byId = (id) => document.getElementById(id);
const data = window.regionflow;
if (!data) {
  byId("missing").hidden = false;
  return;
}

const { rows, scores, seconds } = data;
const steps = Object.keys(seconds);
const explained = scores.explained_variance ?? [];
const totalSeconds = rows.image.map((_, row) => steps.reduce((sum, step) => sum + (seconds[step][row] ?? 0), 0));
const SEGMENTED = data.states.indexOf("segmented");
const everyRow = Array.from(rows.image.keys());
const byName = (a, b) => rows.image[a] - rows.image[b] || rows.label[a] - rows.label[b];
/** The data is sorted worst first, its lists of names and runs in their own order. */
const ORDERS = {
  worst: (a, b) => a - b,
  name: byName,
  regions: (a, b) => rows.regions[b] - rows.regions[a] || byName(a, b),
  slowest: (a, b) => totalSeconds[b] - totalSeconds[a] || byName(a, b),
  newest: (a, b) => rows.run[b] - rows.run[a] || a - b,
};
/** The states there are, best first, as in the table above. */
const statesMet = [...new Set(rows.state)].sort((a, b) => b - a);
const sortedRows = { worst: everyRow };
const filter = { label: -1, state: -1, words: [], order: "worst" };
let shown = [];
let page = 0;
/** One row of each image that is listed, in the order of the list; and where in it an image is. */
let pictured;
let places;
let viewed = -1;

/* Text is only ever appended as text nodes: names and reasons are written by strangers. */
function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

function button(text, pressed, act) {
  const element = make("button", "", ...text);
  element.type = "button";
  element.setAttribute("aria-pressed", String(pressed));
  element.addEventListener("click", act);
  return element;
}

const number = (value) => value.toLocaleString("en-US");
const count = (n, one) => `${number(n)} ${one}${n === 1 ? "" : "s"}`;
const words = (name) => name.replaceAll("_", " ");
const percent = (share) => `${(100 * share).toFixed(1)} %`;
const short = (value) => (Math.abs(value) >= 1e4 || Number.isInteger(value) ? number(Math.round(value)) : String(value));

function duration(value) {
  if (value >= 60) return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
  if (value >= 10) return `${value.toFixed(0)} s`;
  return value < 0.01 ? "< 0.01 s" : `${value.toFixed(value < 1 ? 2 : 1)} s`;
}

function fileSize(bytes) {
  const units = ["bytes", "kB", "MB", "GB"];
  let unit = 0;
  while (bytes >= 1000 && unit < units.length - 1) {
    bytes /= 1000;
    unit += 1;
  }
  return `${bytes.toFixed(unit && bytes < 10 ? 1 : 0)} ${units[unit]}`;
}

/* "Cafe" finds "café", however the accent is encoded. */
const fold = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
let folded;
function matches(row) {
  folded ??= { names: data.name.map(fold), reasons: data.reasons.map(fold) };
  const name = folded.names[rows.image[row]];
  const reason = folded.reasons[rows.reason[row]];
  return filter.words.every((word) => name.includes(word) || reason.includes(word));
}

function pictureUrl(row) {
  const path = data.pictures[rows.picture[row]].replaceAll("*", () => data.id[rows.image[row]]);
  return path && `../${path.split("/").map(encodeURIComponent).join("/")}`;
}

const address = (row) => `#${encodeURIComponent(data.id[rows.image[row]])}/${encodeURIComponent(data.labels[rows.label[row]])}`;

function badge(row) {
  const state = data.states[rows.state[row]];
  return make("span", `badge ${state}`, state);
}

function picture(row, lazy) {
  const image = make("img");
  const name = data.name[rows.image[row]];
  image.alt = `Outlines of ${count(rows.regions[row], "region")} over ${name}, ${data.labels[rows.label[row]]}`;
  if (lazy) image.loading = "lazy";
  image.decoding = "async";
  image.width = rows.width[row];
  image.height = rows.height[row];
  if (rows.width[row] < SMALL_PX) image.className = "small";
  image.addEventListener("error", () => image.replaceWith(make("span", "lost", "The picture is not in the store.")));
  image.src = pictureUrl(row);
  return image;
}

function refusal(row, ...before) {
  const step = data.steps[rows.step[row]];
  const head = make("span", "refusal-head", ...before);
  if (step) head.append(make("span", "aside", `at ${words(step)}`));
  return make("span", "refusal", head, make("span", "reason", data.reasons[rows.reason[row]] || "No reason was recorded."));
}

function nameParts(row) {
  const name = data.name[rows.image[row]];
  const cut = name.lastIndexOf("/") + 1;
  const parts = make("bdi", "name", make("span", "file", name.slice(cut)));
  if (cut) parts.prepend(make("span", "folder", name.slice(0, cut)));
  return parts;
}

function card(row) {
  const segmented = rows.state[row] === SEGMENTED;
  const link = make("a", "card");
  link.href = address(row);
  link.title = data.name[rows.image[row]];
  link.append(make("span", "frame", segmented ? picture(row, true) : refusal(row, badge(row))));
  const facts = make("span", "facts-line", make("span", "label", data.labels[rows.label[row]]));
  if (segmented) facts.append(make("span", "", count(rows.regions[row], "region")));
  facts.append(make("span", "", duration(totalSeconds[row])));
  const text = make("span", "text", nameParts(row), facts);
  const score = explained[row];
  if (segmented && score != null) {
    const fill = make("span");
    fill.style.width = percent(Math.min(Math.max(score, 0), 1)).replace(" ", "");
    const meter = make("span", "meter", fill);
    meter.setAttribute("aria-hidden", "true");
    facts.append(make("span", "score", percent(score)));
    text.append(meter);
  }
  link.append(text);
  return make("li", "", link);
}

function choose() {
  sortedRows[filter.order] ??= everyRow.slice().sort(ORDERS[filter.order]);
  const searched = filter.words.length ? sortedRows[filter.order].filter(matches) : sortedRows[filter.order];
  const labelled = filter.label < 0 ? searched : searched.filter((row) => rows.label[row] === filter.label);
  shown = filter.state < 0 ? labelled : labelled.filter((row) => rows.state[row] === filter.state);
  page = 0;
  pictured = undefined;
  showChoices(searched, labelled);
  showPage();
}

function tally(column, n, among) {
  const counts = new Array(n).fill(0);
  for (const row of among) counts[column[row]] += 1;
  return counts;
}

function showChoices(searched, labelled) {
  const choices = (kind, values, names, column, among) => {
    const group = byId(`${kind}s`);
    const counts = tally(column, names.length, among);
    const focused = [...group.children].indexOf(document.activeElement);
    const one = (text, n, value) =>
      button([text, make("span", "n", number(n))], filter[kind] === value, () => {
        filter[kind] = value;
        choose();
      });
    group.replaceChildren(one(`All ${kind}s`, among.length, -1), ...values.map((value) => one(names[value], counts[value], value)));
    group.hidden = values.length < 2;
    if (focused >= 0) group.children[focused].focus();
  };
  choices("label", [...data.labels.keys()], data.labels, rows.label, searched);
  choices("state", statesMet, data.states, rows.state, labelled);
}

function showPage() {
  const first = page * CARDS_PER_PAGE;
  const last = Math.min(first + CARDS_PER_PAGE, shown.length);
  const pages = Math.max(1, Math.ceil(shown.length / CARDS_PER_PAGE));
  byId("cards").replaceChildren(...shown.slice(first, last).map(card));
  byId("range").textContent = shown.length ? `${number(first + 1)}–${number(last)} of ${count(shown.length, "result")}` : "No results";
  byId("nothing").hidden = shown.length > 0;
  for (const text of document.querySelectorAll("[data-page]")) text.textContent = `${number(page + 1)} / ${number(pages)}`;
  for (const turn of document.querySelectorAll("[data-turn]")) {
    const target = page + Number(turn.dataset.turn);
    turn.disabled = target < 0 || target >= pages;
  }
}

function turnPage(by) {
  const target = page + by;
  if (target < 0 || target * CARDS_PER_PAGE >= shown.length) return;
  page = target;
  showPage();
  byId("main").scrollIntoView();
}

/* The large view: all labels of one image. What is selected is what the address says. */
const view = byId("view");

function selectedRow() {
  try {
    const [id, label] = location.hash.slice(1).split("/").map(decodeURIComponent);
    const image = data.id.indexOf(id);
    if (image < 0) return -1;
    const siblings = everyRow.filter((row) => rows.image[row] === image);
    return siblings.find((row) => data.labels[rows.label[row]] === label) ?? siblings[0];
  } catch {
    return -1;
  }
}

function listImages() {
  if (pictured) return;
  places = new Map();
  pictured = [];
  for (const row of shown) {
    if (places.has(rows.image[row])) continue;
    places.set(rows.image[row], pictured.length);
    pictured.push(row);
  }
}

function showSelected() {
  const row = selectedRow();
  if (row < 0) {
    if (view.open) view.close();
    return;
  }
  listImages();
  viewed = row;
  const image = rows.image[row];
  const siblings = everyRow.filter((other) => rows.image[other] === image).sort(byName);
  byId("view-name").replaceChildren(nameParts(row));
  byId("figures").replaceChildren(...siblings.map((sibling) => figure(sibling, sibling === row && siblings.length > 1)));
  const place = places.get(image) ?? -1;
  byId("place").textContent = place < 0 ? "not listed" : `${number(place + 1)} / ${number(pictured.length)}`;
  byId("previous").disabled = pictured[place - 1] === undefined;
  byId("next").disabled = pictured[place + 1] === undefined;
  if (!view.open) {
    view.showModal();
    view.focus();
  }
  byId("figures").scrollTop = 0;
  byId("figures").querySelector(".chosen")?.scrollIntoView();
}

function figure(row, chosen) {
  const segmented = rows.state[row] === SEGMENTED;
  const head = make("figcaption", "", make("h3", "", data.labels[rows.label[row]]), badge(row));
  const frame = make("div", "frame");
  if (segmented) {
    const link = make("a", "", picture(row, false));
    link.href = pictureUrl(row);
    link.target = "_blank";
    link.rel = "noopener";
    link.title = "Open the picture alone";
    frame.append(link);
  } else {
    frame.append(refusal(row));
  }
  const element = make("figure", chosen ? "chosen" : "", head, frame, facts(row, segmented));
  if (segmented && rows.cuts[row]) loadCuts(row, frame);
  return element;
}

/* Cuts of a region tree: a slider from few regions to many, over borders that the store holds once for all of them. */
const cutsName = (row) => `${data.id[rows.image[row]]}/${data.labels[rows.label[row]]}`;

function loadCuts(row, frame) {
  const show = () => {
    const cuts = window.regionflowCuts?.[cutsName(row)];
    if (cuts && window.DecompressionStream) void addSlider(row, frame, cuts);
  };
  if (window.regionflowCuts?.[cutsName(row)]) {
    show();
    return;
  }
  const script = make("script");
  script.addEventListener("load", () => {
    script.remove();
    show();
  });
  script.addEventListener("error", () => script.remove());
  script.src = pictureUrl(row).replace(/\.[^.]*$/, ".cuts.js");
  document.head.append(script);
}

const bytesOf = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

async function addSlider(row, frame, cuts) {
  const unpacked = new Blob([bytesOf(cuts.borders)]).stream().pipeThrough(new DecompressionStream("deflate"));
  const borders = new Uint8Array(await new Response(unpacked).arrayBuffer());
  const photo = new Image();
  photo.src = `data:image/jpeg;base64,${cuts.picture}`;
  await photo.decode();
  const canvas = make("canvas", cuts.width < SMALL_PX ? "small" : "");
  canvas.width = cuts.width;
  canvas.height = cuts.height;
  canvas.hidden = true;
  canvas.setAttribute("role", "img");
  frame.append(canvas);
  const label = data.labels[rows.label[row]];
  const whose = label === TREES ? "" : ` --label ${label}`;
  const outlined = frame.querySelector("a");
  const slider = make("input");
  slider.type = "range";
  slider.max = cuts.regions.length - 1;
  slider.value = cuts.stored;
  slider.setAttribute("aria-label", `Number of regions of ${label}`);
  const shown = make("output");
  const note = make("span", "aside");
  const turn = () => {
    const stop = Number(slider.value);
    const stored = stop === cuts.stored;
    const text = count(cuts.regions[stop], "region");
    shown.textContent = text;
    note.textContent = stored ? "as stored" : `regionflow recut … --regions ${cuts.regions[stop]}${whose}`;
    note.classList.toggle("code", !stored);
    slider.setAttribute("aria-valuetext", stored ? `${text}, as stored` : text);
    canvas.setAttribute("aria-label", `Outlines of ${text} over ${data.name[rows.image[row]]}`);
    if (!stored) drawCut(canvas, photo, borders, stop + 1);
    canvas.hidden = stored;
    outlined.hidden = !stored;
  };
  slider.addEventListener("input", turn);
  turn();
  frame.after(make("div", "cuts", make("span", "aside", "Fewer"), slider, make("span", "aside", "More"), shown, note));
}

/** Draw all borders that are there from the given stop on, or from one before it: light lines with a dark rim. */
function drawCut(canvas, photo, borders, stop) {
  const { width, height } = canvas;
  const lines = new ImageData(width, height);
  const pixels = new Uint32Array(lines.data.buffer);
  const [line, rim] = new Uint32Array(new Uint8Array([255, 214, 64, 255, 20, 12, 0, 140]).buffer);
  /* A picture that the window makes smaller needs wider lines. */
  const wide = Math.max(width, height) > WIDE_LINES_PX ? 1 : 0;
  const paint = (color, from, to, wanted) => {
    for (let row = 0, at = 0; row < height; row += 1) {
      for (let column = 0; column < width; column += 1, at += 1) {
        if (!wanted(at)) continue;
        for (let y = Math.max(0, row + from); y <= Math.min(height - 1, row + to); y += 1) {
          for (let x = Math.max(0, column + from); x <= Math.min(width - 1, column + to); x += 1) {
            if (pixels[y * width + x] !== line) pixels[y * width + x] = color;
          }
        }
      }
    }
  };
  paint(line, 0, wide, (at) => borders[at] > 0 && borders[at] <= stop);
  paint(rim, -1, 1, (at) => pixels[at] === line);
  const overlay = new OffscreenCanvas(width, height);
  overlay.getContext("2d").putImageData(lines, 0, 0);
  const context = canvas.getContext("2d");
  context.drawImage(photo, 0, 0, width, height);
  context.drawImage(overlay, 0, 0);
}

function facts(row, segmented) {
  const list = make("dl");
  const add = (term, value, className) => {
    const item = make("dd", className ?? "");
    item.append(value);
    list.append(make("dt", className ?? "", term), item);
  };
  if (segmented) add("Regions", number(rows.regions[row]));
  for (const [name, column] of Object.entries(scores)) {
    if (column[row] == null) continue;
    add(words(name).replace(/^./, (letter) => letter.toUpperCase()), name === "explained_variance" ? percent(column[row]) : short(column[row]));
  }
  if (rows.width[row]) add("Size", `${number(rows.width[row])} × ${number(rows.height[row])} px, ${count(rows.channels[row], "channel")}`);
  add("File", fileSize(rows.bytes[row]));
  if (!segmented) add("Tried", rows.attempts[row] === 1 ? "once" : `${rows.attempts[row]} times`);
  add("Time", duration(totalSeconds[row]));
  for (const step of steps) if (seconds[step][row] != null) add(words(step), duration(seconds[step][row]), "step");
  add("Run", data.runs[rows.run[row]], "code");
  if (rows.key[row]) add("Key", `${rows.key[row]}…`, "code");
  const recipe = data.recipes[rows.recipe[row]];
  if (recipe) add("Recipe", recipe);
  return list;
}

/** Turn to the page where the image is that was looked at last. */
function showInList(row) {
  let place = shown.indexOf(row);
  if (place < 0) place = shown.findIndex((other) => rows.image[other] === rows.image[row]);
  if (place < 0) return;
  if (Math.floor(place / CARDS_PER_PAGE) !== page) {
    page = Math.floor(place / CARDS_PER_PAGE);
    showPage();
  }
  byId("cards").children[place % CARDS_PER_PAGE].firstElementChild.focus();
}

function turnImage(by) {
  const target = pictured[(places.get(rows.image[viewed]) ?? -1) + by];
  if (target !== undefined) location.replace(address(target));
}

window.addEventListener("hashchange", showSelected);
view.addEventListener("close", () => {
  if (location.hash) history.replaceState(null, "", location.href.replace(/#.*$/s, ""));
  showInList(viewed);
});
byId("close").addEventListener("click", () => view.close());
byId("previous").addEventListener("click", () => turnImage(-1));
byId("next").addEventListener("click", () => turnImage(1));
view.addEventListener("click", (event) => {
  if (event.target === view) view.close();
});

document.addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!by || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (event.target.closest("input, select")) return;
  event.preventDefault();
  if (view.open) turnImage(by);
  else turnPage(by);
});
for (const turn of document.querySelectorAll("[data-turn]")) turn.addEventListener("click", () => turnPage(Number(turn.dataset.turn)));
for (const total of document.querySelectorAll("button.count")) {
  total.addEventListener("click", () => {
    filter.label = data.labels.indexOf(total.dataset.label);
    filter.state = data.states.indexOf(total.dataset.state);
    choose();
    byId("main").scrollIntoView();
  });
}
function search() {
  filter.words = fold(byId("search").value).split(/\s+/).filter(Boolean);
  choose();
}
byId("search").addEventListener("input", search);
byId("order").addEventListener("change", (event) => {
  filter.order = event.target.value;
  choose();
});
byId("clear").addEventListener("click", () => {
  byId("search").value = "";
  filter.label = filter.state = -1;
  search();
  byId("search").focus();
});

byId("main").hidden = false;
byId("order").value = filter.order;
byId("search").value = "";
choose();
showSelected();
})();
