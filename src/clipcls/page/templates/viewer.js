"use strict";
// One image, large, with its probabilities.

const viewer = byId("viewer");
let current = -1; // image
let at = -1; // its place in `order`, -1 in the queue
let queueing = false;
let why = null; // image -> address of its explanation; read when an image is first opened

function openViewer(place) {
  queueing = false;
  at = place;
  show(order[place]);
}

function openQueue() {
  const image = nextInQueue();
  if (image < 0) {
    announce(skipped.size ? "Only skipped images are left" : "Every image has a label");
    skipped.clear();
    if (viewer.open) viewer.close();
    return;
  }
  queueing = true;
  at = -1;
  show(image);
}

function show(image) {
  current = image;
  const picture = byId("viewer-image");
  const note = byId("viewer-note");
  const notes = [data.errors[image], data.notes[image], data.missing[image]].filter(Boolean);
  const small = thumbnail(image);
  if (small && !data.links[image]) notes.push("this page has only the thumbnail of it");
  picture.alt = nameOf(data.paths[image]);
  picture.onerror = () => {
    picture.onerror = null;
    if (small && picture.src !== small) picture.src = small;
    tellNotes(note, [...notes, "the original is not where it was, so this is its thumbnail"]);
  };
  const source = data.links[image] || small;
  picture.hidden = !source;
  if (source) picture.src = source;
  else picture.removeAttribute("src");
  tellNotes(note, notes);
  showWhy(image);
  byId("viewer-name").textContent = nameOf(data.paths[image]);
  byId("viewer-name").title = data.paths[image];
  byId("viewer-back").hidden = queueing;
  byId("viewer-on").textContent = queueing ? "Skip →" : "Next →";
  byId("viewer-on").setAttribute("aria-label", queueing ? "Skip this image" : "Next image");
  drawTruth();
  if (!viewer.open) viewer.showModal();
  byId("viewer-bars").scrollTop = 0;
}

/** Show which parts of the image carry which label, where clipcls explain has said so. */
function showWhy(image) {
  why ??= JSON.parse(byId("why").textContent);
  const picture = byId("viewer-why");
  picture.hidden = !(image in why);
  picture.alt = `Which parts of ${nameOf(data.paths[image])} carry which label`;
  if (image in why) picture.src = why[image];
  else picture.removeAttribute("src");
}

function tellNotes(note, notes) {
  note.hidden = !notes.length;
  note.textContent = [...new Set(notes)].join("; ");
}

/** Draw everything that a label changes. */
function drawTruth() {
  const image = current;
  const truth = truthOf(image);
  const predicted = data.predicted[image];
  byId("viewer-place").textContent = queueing ? queueText() : `${number(at + 1)} of ${number(order.length)}`;
  const right = isRight(image);
  const verdict = byId("viewer-verdict");
  verdict.className = right === null ? "" : right ? "right" : "wrong";
  verdict.textContent = predicted === FAILED ? "Failed"
    : right === null ? `Predicted ${names[predicted]}` : right ? `✓ ${names[predicted]}` : `✕ ${names[predicted]}, in truth ${said(truth)}`;
  const choice = byId("viewer-truth");
  choice.replaceChildren(make("option", { value: "", text: data.multiLabel && truth ? said(truth) : "not labelled" }),
    ...choices.map((place) => make("option", { value: place, text: `${data.multiLabel && truth?.includes(place) ? "✓ " : ""}${names[place]}` })));
  choice.value = !data.multiLabel && truth ? truth[0] : "";
  const keys = keysOf(image);
  const known = new Map();
  for (let place = 0; place < data.bars[image].length; place += 2) known.set(data.bars[image][place], data.bars[image][place + 1]);
  // Labels that a key sets are there also where their probability does not show, and keep their place.
  const few = keys.length === data.labels.length;
  const bars = [...new Set(few ? keys : [...known.keys(), ...keys])];
  byId("viewer-bars").replaceChildren(...[...bars, ...choices.slice(NONE)].map((label) => bar(image, label, (label === NONE ? data.pUnknown[image] : known.get(label)) ?? null, keys, truth)));
  const rest = data.labels.length - bars.length;
  const least = Math.min(...known.values(), 1);
  byId("viewer-rest").textContent = rest > 0 && predicted !== FAILED ? `${number(rest)} more ${rest === 1 ? "label" : "labels"} at ${percent(least)} or less` : "";
}

function bar(image, label, probability, keys, truth) {
  const key = label === NONE ? 0 : keys.indexOf(label) + 1;
  const title = label === NONE ? "the share of the words that compete with the labels, beside their probabilities" : null;
  const button = make("button", { type: "button", title, "aria-pressed": String(Boolean(truth?.includes(label))), on: { click: () => choose(label) } },
    make("span", { class: "key" }, ...(key || label === NONE ? [make("kbd", { text: key })] : [])),
    make("span", { class: "name", text: names[label] }),
    make("span", { class: "probability", text: data.predicted[image] === FAILED ? "" : written(probability) }),
    make("span", { class: "meter" }));
  button.style.setProperty("--share", probability ?? 0);
  return make("li", { class: label === data.predicted[image] ? "predicted" : "" }, button);
}

/** Set the label of the open image; in the queue, go on to the next one. */
function choose(label) {
  setLabel(current, label, queueing ? data.chosenBy.queue : data.chosenBy.person);
  if (queueing && !data.multiLabel) openQueue();
}

function queueText() {
  const whole = wholeRounds().length;
  const round = data.queue.rounds[whole];
  if (!round) return "All rounds are done";
  const left = round.filter((image) => !marks.has(image)).length;
  return `Round ${whole + 1}: ${left} of ${round.length} to go`;
}

function step(by) {
  if (queueing) {
    if (by > 0) {
      if (!marks.has(current)) skipped.add(current);
      openQueue();
    }
    return;
  }
  const next = at + by;
  if (next < 0 || next >= order.length) return;
  at = next;
  show(order[at]);
}

viewer.addEventListener("close", () => {
  byId("viewer-image").onerror = null;
  byId("viewer-image").removeAttribute("src");
  byId("viewer-why").removeAttribute("src");
  if (!queueing && order.length) focusOn(at);
  current = -1;
});

changed.add((image) => {
  if (image === current) drawTruth();
});
