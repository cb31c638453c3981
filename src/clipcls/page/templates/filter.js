"use strict";
// Which images are shown, and in which order.

const filter = { text: "", state: "all", least: 0, most: 1, classes: new Set(), pair: null, sort: "", group: true };
const FAILED = -1;

const STATES = {
  all: ["All", () => true],
  failed: ["Failed", (image) => data.predicted[image] === FAILED],
  right: ["Right", (image) => isRight(image) === true],
  wrong: ["Wrong", (image) => isRight(image) === false],
  labelled: ["Labelled by you", (image) => marks.has(image)],
  open: ["Without a label", (image) => truthOf(image) === null],
};

// What is not known of `unknown` is judged by the best label.
const confidence = data.probability.map((value, image) => shareOf(image) ?? value);
const down = (values) => (a, b) => (values[b] ?? -1) - (values[a] ?? -1) || a - b;
const up = (values) => (a, b) => (values[a] ?? 2) - (values[b] ?? 2) || a - b;
const SORTS = {
  mistakes: ["confident mistakes first", (a, b) => (isRight(a) !== false) - (isRight(b) !== false) || down(confidence)(a, b)],
  confident: ["most confident first", down(confidence)],
  margin: ["least margin first", up(data.margin)],
  entropy: ["highest entropy first", down(data.entropy)],
  input: ["as in the output", (a, b) => a - b],
};
if (!data.entropy.some((value) => value !== null)) delete SORTS.entropy;

/** Whether an image passes the filters, leaving one of them out. */
function passes(image, without = "") {
  const predicted = data.predicted[image];
  const probability = confidence[image];
  if (without !== "state" && !STATES[filter.state][1](image)) return false;
  if (filter.text && !data.paths[image].toLowerCase().includes(filter.text)) return false;
  if (without !== "classes" && filter.classes.size && !filter.classes.has(predicted)) return false;
  if (filter.pair && !(predicted === filter.pair[1] && truthOf(image)?.includes(filter.pair[0]))) return false;
  if (without === "range" || (filter.least <= 0 && filter.most >= 1)) return true;
  return probability !== null && probability >= filter.least && probability <= filter.most;
}

/** Return the images that pass, in order, as groups of [title, images]. */
function groups() {
  const kept = [];
  for (let image = 0; image < total; image++) if (passes(image)) kept.push(image);
  kept.sort(SORTS[filter.sort][1]);
  if (!filter.group) return [["", kept]];
  const byClass = new Map();
  for (const image of kept) {
    const place = data.predicted[image];
    if (!byClass.has(place)) byClass.set(place, []);
    byClass.get(place).push(image);
  }
  const order = (place) => (place === FAILED ? names.length : place);
  return [...byClass].sort(([a], [b]) => order(a) - order(b)).map(([place, own]) => [className(place), own]);
}

function className(place) {
  return place === FAILED ? "Failed" : names[place];
}

/** Return how many images there are of each class, under the other filters. */
function classCounts() {
  const counts = new Map();
  for (let image = 0; image < total; image++) {
    if (passes(image, "classes")) counts.set(data.predicted[image], (counts.get(data.predicted[image]) || 0) + 1);
  }
  return counts;
}

// --- the controls ---

// They are made once and then brought up to date, so that none loses the focus.
const stateRows = new Map(); // key of STATES -> label element
const classRows = new Map(); // place of a class -> label element

function choiceRow(type, name, value, title) {
  return make("label", {}, make("input", { type, name, value }),
    make("span", { class: "name", text: title, title }), make("span", { class: "count" }));
}

function makeControls() {
  for (const [key, [title]] of Object.entries(STATES)) stateRows.set(key, choiceRow("radio", "state", key, title));
  stateRows.get("all").firstChild.checked = true;
  for (const place of [...data.labels.keys(), data.labels.length, FAILED]) {
    classRows.set(place, choiceRow("checkbox", "class", place, className(place)));
  }
  byId("states").append(...stateRows.values());
  byId("classes").append(...classRows.values());
}

function drawStates() {
  for (const [key, row] of stateRows) {
    const holds = STATES[key][1];
    let count = 0;
    for (let image = 0; image < total; image++) if (holds(image)) count++;
    row.hidden = !count && key !== filter.state && key !== "all";
    row.lastChild.textContent = number(count);
  }
}

function drawClasses() {
  const counts = classCounts();
  for (const [place, row] of classRows) {
    row.hidden = !counts.has(place) && !filter.classes.has(place);
    row.lastChild.textContent = number(counts.get(place) || 0);
  }
}

const BANDS = 20;

/** Draw how many images have which probability, those outside of the range pale. */
function drawBands() {
  const counts = new Array(BANDS).fill(0);
  for (let image = 0; image < total; image++) {
    const probability = confidence[image];
    if (probability !== null && passes(image, "range")) counts[Math.min(BANDS - 1, Math.floor(probability * BANDS))]++;
  }
  const most = Math.max(...counts, 1);
  byId("bands").replaceChildren(...counts.map((count, place) => {
    const inside = (place + 1) / BANDS > filter.least && place / BANDS <= filter.most;
    const bar = make("span", { class: inside ? "" : "pale", title: `${5 * place} to ${5 * place + 5} %: ${images(count)}` });
    bar.style.height = `${count ? Math.max(4, (100 * count) / most) : 0}%`;
    return bar;
  }));
}

/** Take the filters from the form and show what passes. */
function apply() {
  const share = (id, otherwise) => (byId(id).value === "" ? otherwise : byId(id).valueAsNumber / 100);
  filter.text = byId("search").value.trim().toLowerCase();
  filter.state = byId("states").querySelector(":checked").value;
  filter.least = share("least", 0);
  filter.most = share("most", 1);
  filter.classes = new Set([...byId("classes").querySelectorAll(":checked")].map((choice) => Number(choice.value)));
  filter.sort = byId("sort").value;
  filter.group = byId("group").checked;
  refresh();
}

/** Show what passes, from the top, and bring the controls up to date. */
function refresh() {
  drawStates();
  drawClasses();
  drawBands();
  drawPair();
  showGroups(groups());
}

function drawPair() {
  const chip = filter.pair && make("button", {
    type: "button", class: "chip", on: { click: () => { filter.pair = null; refresh(); } },
    text: `${names[filter.pair[0]]} taken for ${names[filter.pair[1]]} ×`, "aria-label": "Show other pairs too",
  });
  byId("pair").replaceChildren(...(chip ? [chip] : []));
}

function reset() {
  byId("form").reset();
  stateRows.get("all").firstChild.checked = true;
  filter.pair = null;
  apply();
}

// --- the confusion matrix ---

const MOST_CELLS = 24; // labels up to which there is a table, beyond a list of pairs

function drawConfusion() {
  const counts = new Map();
  for (let image = 0; image < total; image++) {
    const truth = truthOf(image);
    if (!truth || truth.length !== 1 || data.predicted[image] < 0) continue;
    const key = `${truth[0]},${data.predicted[image]}`;
    counts.set(key, (counts.get(key) || 0) + 1);
  }
  byId("confusion").hidden = data.multiLabel || !counts.size;
  if (byId("confusion").hidden) return;
  const pairs = [...counts].map(([key, count]) => [...key.split(",").map(Number), count]);
  byId("accuracy").textContent = data.truth ? `: ${accuracy(pairs)}` : "";
  const own = [...new Set(pairs.flatMap(([truth, predicted]) => [truth, predicted]))].sort((a, b) => a - b);
  byId("matrix").replaceChildren(own.length <= MOST_CELLS ? confusionTable(own, counts) : confusionList(pairs));
}

/** Say how many are right; as in the figures of clipcls evaluate, images of none of the labels apart. */
function accuracy(pairs) {
  const sum = (some) => some.reduce((before, [, , count]) => before + count, 0);
  const told = (some, what, verdict) => {
    const right = sum(some.filter(([truth, predicted]) => truth === predicted));
    return `${number(right)} of ${what(sum(some))} ${verdict} (${percent(right / sum(some))})`;
  };
  const known = pairs.filter(([truth]) => truth !== NONE);
  const unknown = pairs.filter(([truth]) => truth === NONE);
  if (!unknown.length) return told(known, images, "right");
  const parts = known.length ? [told(known, (count) => `${number(count)} known`, "right")] : [];
  return [...parts, told(unknown, (count) => `${number(count)} unknown`, "found")].join(", ");
}

function cellButton(truth, predicted, count) {
  const about = `${images(count)} of ${names[truth]} ${truth === predicted ? "found" : `taken for ${names[predicted]}`}`;
  const choose = () => {
    filter.pair = [truth, predicted];
    refresh();
    announce(about);
    byId("grid").scrollIntoView({ block: "nearest" });
  };
  return make("button", { type: "button", text: number(count), "aria-label": about, title: about, on: { click: choose } });
}

function confusionTable(own, counts) {
  const head = make("tr", {}, make("th", { class: "corner", text: "true ↓ predicted →" }),
    ...own.map((place) => make("th", { scope: "col" }, make("span", { text: names[place] }))));
  const rows = own.filter((place) => place < NONE || data.takesUnknown).map((truth) => {
    const row = own.map((predicted) => counts.get(`${truth},${predicted}`) || 0);
    const sum = row.reduce((a, b) => a + b, 0);
    return make("tr", {}, make("th", { scope: "row", text: names[truth] }), ...row.map((count, i) => {
      const box = make("td", { class: truth === own[i] ? "hit" : "miss" }, ...(count ? [cellButton(truth, own[i], count)] : []));
      box.style.setProperty("--share", sum ? count / sum : 0);
      return box;
    }));
  });
  return make("table", { class: "matrix" }, make("thead", {}, head), make("tbody", {}, ...rows));
}

function confusionList(pairs) {
  const wrong = pairs.filter(([truth, predicted]) => truth !== predicted).sort((a, b) => b[2] - a[2]).slice(0, 60);
  return make("ul", { class: "pairs" }, ...wrong.map(([truth, predicted, count]) =>
    make("li", {}, cellButton(truth, predicted, count), make("span", { text: ` ${names[truth]} taken for ${names[predicted]}` }))));
}
