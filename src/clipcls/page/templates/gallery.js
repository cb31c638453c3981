"use strict";
// The grid: only the tiles near the window exist, so that 20,000 images are as quick as twenty.

const SMALLEST = 158; // pixels of a tile, at least
const GAP = 14;
const CAPTION = 44;
const HEADING = 52;
const AROUND = 900; // pixels above and below the window for which there are tiles

let order = []; // images, as they are shown
let rows = []; // {top, height, title, count} or {top, height, from, to} (places in `order`)
let width = 0; // pixels of the grid, as it was laid
let columns = 1;
let side = SMALLEST;
let focused = 0; // place in `order` that the keyboard is at
const tiles = new Map(); // place in `order` -> element
const headings = new Map(); // place in `rows` -> element
const grid = byId("grid");
let shownGroups = [];

function showGroups(found) {
  shownGroups = found;
  order = found.flatMap(([, own]) => own);
  focused = 0;
  byId("found").textContent = order.length === total ? images(total) : `${number(order.length)} of ${images(total)}`;
  byId("empty").hidden = order.length > 0;
  lay();
}

/** Say where every row is; then draw those that can be seen. */
function lay() {
  width = grid.clientWidth;
  columns = Math.max(2, Math.floor((width + GAP) / (SMALLEST + GAP)));
  side = Math.floor((width - GAP * (columns - 1)) / columns);
  rows = [];
  let top = 0;
  let place = 0;
  for (const [title, own] of shownGroups) {
    if (title && own.length) {
      rows.push({ top, height: HEADING, title, count: own.length });
      top += HEADING;
    }
    for (let from = 0; from < own.length; from += columns) {
      const many = Math.min(columns, own.length - from);
      rows.push({ top, height: side + CAPTION + GAP, from: place, to: place + many });
      top += side + CAPTION + GAP;
      place += many;
    }
  }
  grid.style.height = `${top}px`;
  for (const element of [...tiles.values(), ...headings.values()]) element.remove();
  tiles.clear();
  headings.clear();
  draw();
}

/** Return the place of the first row that ends below a height. */
function rowAt(height) {
  let low = 0;
  let high = rows.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rows[middle].top + rows[middle].height <= height) low = middle + 1;
    else high = middle;
  }
  return low;
}

function draw() {
  const top = -grid.getBoundingClientRect().top;
  const first = rowAt(top - AROUND);
  const seen = new Set();
  const seenHeadings = new Set();
  for (let at = first; at < rows.length && rows[at].top < top + innerHeight + AROUND; at++) {
    const row = rows[at];
    if (row.title !== undefined) {
      seenHeadings.add(at);
      if (!headings.has(at)) headings.set(at, heading(row));
    } else {
      for (let place = row.from; place < row.to; place++) {
        seen.add(place);
        if (!tiles.has(place)) tiles.set(place, tile(place, row));
      }
    }
  }
  for (const [known, wanted] of [[tiles, seen], [headings, seenHeadings]]) {
    for (const [place, element] of known) {
      // What has the focus stays, or the keyboard would lose its place.
      if (!wanted.has(place) && !element.contains(document.activeElement)) {
        element.remove();
        known.delete(place);
      }
    }
  }
}

function heading(row) {
  const element = make("h2", { class: "group" }, make("span", { text: row.title }), make("span", { class: "count", text: number(row.count) }));
  element.style.transform = `translateY(${row.top}px)`;
  grid.append(element);
  return element;
}

function tile(place, row) {
  const image = order[place];
  const item = make("div", { role: "listitem", class: "item", "aria-setsize": order.length, "aria-posinset": place + 1 });
  item.style.transform = `translate(${(place - row.from) * (side + GAP)}px, ${row.top}px)`;
  item.style.width = `${side}px`;
  const button = make("button", { type: "button", class: "tile", tabindex: place === focused ? 0 : -1, "data-image": image });
  button.addEventListener("click", () => openViewer(place));
  button.addEventListener("focus", () => focusOn(place, false));
  item.append(button);
  fill(button, image);
  // In the order of the page also after scrolling up, for those who read it.
  let after = null;
  for (const [other, element] of tiles) if (other > place && (after === null || other < after[0])) after = [other, element];
  grid.insertBefore(item, after ? after[1] : null);
  return item;
}

/** Write what is known of an image into its tile. */
function fill(button, image) {
  const predicted = data.predicted[image];
  const source = thumbnail(image);
  const picture = source
    ? make("img", { alt: "", decoding: "async", src: source, draggable: "false" })
    : make("span", { class: "missing", text: data.missing[image] });
  picture.addEventListener("error", () => picture.replaceWith(make("span", { class: "missing", text: "no thumbnail" })));
  const frame = make("span", { class: "frame" }, picture);
  frame.style.height = `${side}px`;
  const right = isRight(image);
  if (right !== null) frame.append(make("span", { class: `verdict ${right ? "right" : "wrong"}`, text: right ? "✓" : "✕" }));
  const truth = truthOf(image);
  if (marks.has(image) || right === false) frame.append(make("span", { class: marks.has(image) ? "truth own" : "truth", text: said(truth) }));
  const share = shareOf(image);
  const meter = make("span", { class: "meter" });
  meter.style.setProperty("--share", share ?? 0);
  const caption = predicted === FAILED
    ? make("span", { class: "caption" }, make("span", { class: "label bad", text: data.errors[image] }))
    : make("span", { class: "caption" }, make("span", { class: "label", text: names[predicted] }),
      make("span", { class: "probability", text: written(share) }));
  button.replaceChildren(frame, caption, make("span", { class: "file", text: nameOf(data.paths[image]) }));
  if (predicted !== FAILED) frame.append(meter);
  button.title = data.paths[image];
  button.setAttribute("aria-label", describe(image));
}

function describe(image) {
  const predicted = data.predicted[image];
  const parts = [nameOf(data.paths[image])];
  parts.push(predicted === FAILED ? `failed: ${data.errors[image]}` : names[predicted]);
  if (shareOf(image) !== null) parts.push(percent(shareOf(image)));
  const right = isRight(image);
  if (right !== null) parts.push(right ? "right" : "wrong");
  if (truthOf(image)) parts.push(`${marks.has(image) ? "you said" : "in truth"} ${said(truthOf(image))}`);
  return parts.join(", ");
}

/** Move the keyboard to a place of the grid, and the window with it. */
function focusOn(place, move = true) {
  const before = tiles.get(focused)?.firstChild;
  if (before) before.tabIndex = -1;
  focused = Math.min(Math.max(place, 0), order.length - 1);
  if (move) {
    const row = rows.find((one) => one.from <= focused && focused < one.to);
    if (!row) return;
    const top = grid.getBoundingClientRect().top + row.top;
    const bar = 64; // the toolbar stays at the top of the window
    if (top < bar) scrollBy(0, top - bar);
    else if (top + row.height > innerHeight) scrollBy(0, top + row.height - innerHeight);
    draw();
  }
  const button = tiles.get(focused)?.firstChild;
  if (!button) return;
  button.tabIndex = 0;
  if (move) button.focus({ preventScroll: true });
}

/** Move by rows in the grid, also where groups end in short rows. */
function focusRow(step) {
  const lines = rows.filter((row) => row.from !== undefined);
  const at = lines.findIndex((row) => row.from <= focused && focused < row.to);
  const next = lines[at + step];
  if (next) focusOn(Math.min(next.from + focused - lines[at].from, next.to - 1));
}

changed.add((image) => {
  for (const item of tiles.values()) {
    const button = item.firstChild;
    if (Number(button.dataset.image) === image) fill(button, image);
  }
});
