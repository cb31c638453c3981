"use strict";
// Start: the controls, the keyboard, the first picture of everything.

/** Say how far the labels are, and what the random part says. */
function drawProgress() {
  const card = byId("progress");
  card.hidden = marks.size === 0;
  if (card.hidden) return;
  const parts = [make("span", {}, make("b", { text: number(marks.size) }), ` of ${images(total)} labelled by you`)];
  if (!data.truth) {
    const drawn = wholeRounds().flat();
    const right = drawn.filter((image) => isRight(image)).length;
    parts.push(make("span", { class: "quiet", text: drawn.length
      ? `Of ${number(drawn.length)} drawn at random, ${number(right)} right (${percent(right / drawn.length)}); clipcls evaluate says how sure that is`
      : "“Label next” draws the random part that estimates the accuracy" }));
  }
  card.replaceChildren(...parts);
}

const dialogs = [viewer, byId("help")];
const typing = (target) => target.matches("input:not([type=radio]):not([type=checkbox]), select, textarea");

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
  const help = byId("help").open;
  const image = viewer.open ? current : document.activeElement?.dataset?.image;
  if (/^[0-9]$/.test(event.key) && image !== undefined && !help) {
    const label = event.key === "0" ? choices[NONE] : keysOf(Number(image))[Number(event.key) - 1];
    if (label === undefined) return;
    if (viewer.open) choose(label);
    else setLabel(Number(image), label);
  } else if (event.key.toLowerCase() === "u" && !help) {
    const back = undo();
    if (viewer.open && queueing && back >= 0) show(back);
  } else if (event.key === "?" && !help) byId("help").showModal();
  else if (help) return;
  else if (event.key === "/" && !viewer.open) {
    byId("filters").open = true;
    byId("search").focus();
  } else if (event.key.toLowerCase() === "n" && byId("next") && !viewer.open) openQueue();
  else if (viewer.open && event.key === "ArrowLeft") step(-1);
  else if (viewer.open && event.key === "ArrowRight") step(1);
  else if (!viewer.open && event.key.startsWith("Arrow") && inGallery(event.target)) {
    if (event.key === "ArrowLeft") focusOn(focused - 1);
    else if (event.key === "ArrowRight") focusOn(focused + 1);
    else focusRow(event.key === "ArrowDown" ? 1 : -1);
  } else return;
  event.preventDefault();
}

/** The arrows belong to the images, unless a control or the window itself needs them. */
function inGallery(target) {
  return target.closest("#grid") !== null || target === document.body || target === byId("gallery");
}

const THEME = "clipcls:theme";

/** Show the page light or dark, as was chosen once, else as the system is. */
function startTheme() {
  let theme = null;
  try { theme = localStorage.getItem(THEME); } catch { /* nothing is kept here */ }
  const show = () => { document.documentElement.style.colorScheme = theme || "light dark"; };
  byId("theme").addEventListener("click", () => {
    const dark = theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    theme = dark ? "light" : "dark";
    try { localStorage.setItem(THEME, theme); } catch { /* until it is closed, then */ }
    show();
  });
  show();
}

function start() {
  for (const [key, [title]] of Object.entries(SORTS)) {
    if (key !== "mistakes" || data.truth) byId("sort").append(make("option", { value: key, text: title }));
  }
  byId("sort").value = filter.sort = data.truth ? "mistakes" : "confident";
  // Groups of one or two images are mostly air.
  const classes = new Set(data.predicted).size;
  byId("group").checked = filter.group = !data.truth && total >= 6 * classes;
  makeControls();
  byId("help-numbers").textContent = data.labels.length <= 9
    ? "set the true label, in the order of the labels" : "set the true label, in the order of the probabilities";
  const wide = matchMedia("(min-width: 800px)");
  byId("filters").open = wide.matches;
  byId("confusion").open = data.truth && wide.matches && data.labels.length <= MOST_CELLS;
  wide.addEventListener("change", () => { byId("filters").open = wide.matches; });

  byId("form").addEventListener("input", apply);
  byId("form").addEventListener("submit", (event) => event.preventDefault());
  byId("clear").addEventListener("click", reset);
  byId("sort").addEventListener("change", apply);
  byId("group").addEventListener("change", apply);
  byId("download").addEventListener("click", download);
  byId("next")?.addEventListener("click", openQueue);
  byId("help-open").addEventListener("click", () => byId("help").showModal());
  byId("help-close").addEventListener("click", () => byId("help").close());
  byId("viewer-close").addEventListener("click", () => viewer.close());
  byId("viewer-back").addEventListener("click", () => step(-1));
  byId("viewer-on").addEventListener("click", () => step(1));
  byId("viewer-undo").addEventListener("click", undo);
  byId("viewer-truth").addEventListener("change", (event) => {
    if (event.target.value !== "") choose(Number(event.target.value));
    else if (!data.multiLabel) clearLabel(current);
  });
  // A click beside a dialog closes it.
  for (const dialog of dialogs) dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  startTheme();

  document.addEventListener("keydown", onKey);
  let waiting = false;
  const redraw = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      if (grid.clientWidth === width) draw();
      else lay();
    });
  };
  addEventListener("scroll", redraw, { passive: true });
  addEventListener("resize", redraw);
  // What opens or closes above the grid moves it.
  new ResizeObserver(redraw).observe(document.body);
  // Another window with the same page.
  addEventListener("storage", (event) => {
    if (event.key !== KEY) return;
    load();
    refresh();
    drawProgress();
  });
  changed.add(() => { drawProgress(); drawConfusion(); drawStates(); });
  drawProgress();
  drawConfusion();
  refresh();
}

start();
