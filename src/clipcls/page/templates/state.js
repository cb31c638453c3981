"use strict";
// What is known, what a person says, and how both are written. Nothing here touches the gallery.

const data = JSON.parse(document.getElementById("content").textContent);
const names = [...data.labels, data.unknown];
const NONE = data.labels.length; // the place of `unknown`, which is of none of the labels
const choices = [...data.labels.keys(), ...(data.takesUnknown ? [NONE] : [])];
const total = data.paths.length;

const byId = (id) => document.getElementById(id);

/** Make an element. Text goes in as text: names and labels are data, whatever they look like. */
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "text") element.textContent = value;
    else if (name === "on") for (const [event, run] of Object.entries(value)) element.addEventListener(event, run);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

const percent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.001 ? 2 : 1)} %`;
const number = (count) => count.toLocaleString("en");
const images = (count) => `${number(count)} ${count === 1 ? "image" : "images"}`;
const nameOf = (path) => path.slice(path.lastIndexOf("/") + 1) || path;
const said = (labels) => labels.map((label) => names[label]).join(", ") || "none of the labels";

/** Tell everybody, also those who do not see the page; an open dialog silences what is outside of it. */
let silence;
function announce(text) {
  byId(byId("viewer").open ? "viewer-said" : "said").textContent = text;
  clearTimeout(silence);
  silence = setTimeout(() => { byId("said").textContent = byId("viewer-said").textContent = ""; }, 4000);
}

/** Return what speaks for a prediction: its probability; for `unknown`, the share of the words. Null if not known. */
const shareOf = (image) => (data.predicted[image] === NONE ? data.pUnknown : data.probability)[image];
const written = (share) => (share === null ? "–" : percent(share));

// --- thumbnails ---

const chunks = new Map();
const CHUNK = 500;

/** Return the address of a thumbnail; empty where there is none. */
function thumbnail(image) {
  if (image in data.missing) return "";
  if (data.folder) return `${data.folder}/${String(image).padStart(6, "0")}.jpg`;
  const place = Math.floor(image / CHUNK);
  if (!chunks.has(place)) chunks.set(place, JSON.parse(byId(`thumbnails-${place}`).textContent));
  return `data:image/jpeg;base64,${chunks.get(place)[image % CHUNK]}`;
}

// --- what a person says ---

const KEY = `clipcls:${data.digest}`;
let marks = new Map(); // image -> {labels: [place, ...], by: "person" or "queue"}
const undone = []; // [image, mark before], the latest last

function load() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY) || "[]");
    marks = new Map(kept.filter(([image]) => image < total));
  } catch {
    marks = new Map();
  }
}

function save() {
  try {
    localStorage.setItem(KEY, JSON.stringify([...marks]));
  } catch {
    byId("storage").hidden = false;
    byId("storage").textContent =
      "This browser does not keep labels for a page from disk: download labels.csv before you close it.";
  }
}

const changed = new Set(); // functions that are told of an image whose label changed

function setMark(image, mark) {
  if (mark) marks.set(image, mark);
  else marks.delete(image);
  save();
  for (const tell of changed) tell(image);
}

/** Set the true label of an image; with several labels to an image, add or remove it. */
function setLabel(image, label, by = data.chosenBy.person) {
  const before = marks.get(image);
  let labels = [label];
  if (data.multiLabel) {
    const now = truthOf(image) || [];
    labels = now.includes(label) ? now.filter((other) => other !== label) : [...now, label].sort((a, b) => a - b);
  }
  undone.push([image, before]);
  setMark(image, { labels, by: before ? before.by : by });
  announce(`${nameOf(data.paths[image])}: ${said(labels)}`);
}

function clearLabel(image) {
  if (!marks.has(image)) return;
  undone.push([image, marks.get(image)]);
  setMark(image, null);
  announce(`${nameOf(data.paths[image])}: no label`);
}

/** Take the latest label back; return its image, or -1. */
function undo() {
  if (!undone.length) {
    announce("Nothing to undo");
    return -1;
  }
  const [image, before] = undone.pop();
  setMark(image, before);
  announce(`Undone: ${nameOf(data.paths[image])}${before ? ` is ${said(before.labels)} again` : " has no label"}`);
  return image;
}

/** Return the true labels of an image, null where nobody said. */
function truthOf(image) {
  const mark = marks.get(image);
  if (mark) return mark.labels;
  const given = data.truth ? data.truth[image] : null;
  return given && (given.length || data.multiLabel) ? given : null;
}

/** Whether the prediction is right; null where that is not known. */
function isRight(image) {
  const truth = truthOf(image);
  if (!truth || !truth.length || data.predicted[image] < 0) return null;
  return truth.includes(data.predicted[image]);
}

/** Return the labels of the keys 1 to 9: always the same where there are so few, else the best ones. */
function keysOf(image) {
  if (data.labels.length <= 9) return data.labels.map((_, place) => place);
  const best = data.bars[image].filter((_, place) => place % 2 === 0);
  return (best.length ? best : data.labels.map((_, place) => place)).slice(0, 9);
}

// --- the queue ---

const skipped = new Set();

/** Return the rounds, from the first, of which every image has a label. */
function wholeRounds() {
  const { rounds } = data.queue;
  const end = rounds.findIndex((round) => round.some((image) => !marks.has(image)));
  return end < 0 ? rounds : rounds.slice(0, end);
}

/** Return the next image to label, by turns a random one and one that teaches; -1 at the end. */
function nextInQueue() {
  const open = (image) => !marks.has(image) && !skipped.has(image);
  const chance = data.queue.rounds.flat().find(open) ?? -1;
  const teaching = data.queue.teaching.find((image) => open(image) && image !== chance) ?? -1;
  const turn = [...marks.values()].filter((mark) => mark.by === data.chosenBy.queue).length % 2;
  return turn && teaching >= 0 ? teaching : chance;
}

// --- labels.csv ---

function cell(text) {
  return /[",;\n\r\t|]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Return the file that `clipcls evaluate` and `clipcls calibrate` take. */
function labelsFile() {
  const chance = new Set(wholeRounds().flat());
  const rows = [["path", "label", ...(data.truth ? [] : [data.chosenBy.name])]];
  for (let image = 0; image < total; image++) {
    const truth = truthOf(image);
    if (!truth) continue;
    const by = chance.has(image) ? data.chosenBy.chance : marks.get(image)?.by;
    rows.push([data.paths[image], truth.map((label) => names[label]).join(";"), ...(data.truth ? [] : [by])]);
  }
  return rows.map((row) => row.map(cell).join(",") + "\n").join("");
}

function download() {
  const address = URL.createObjectURL(new Blob([labelsFile()], { type: "text/csv" }));
  make("a", { href: address, download: "labels.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
  announce("labels.csv downloaded");
}

load();
