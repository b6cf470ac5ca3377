// Every shortcut once: what the page obeys and what its sheet shows.

import { t } from "./strings.js";

/** [keys, text, action(app, event)]; keys as `Ctrl+Shift+Z`; several separated by a space. */
export const SHORTCUTS = [
  ["Ctrl+O", "open", (app) => document.getElementById("file").click()],
  ["Ctrl+S", "save", (app) => app.saving.save()],
  ["Ctrl+C", "copy", (app) => app.saving.copy()],
  ["Ctrl+V", "kPaste", null],
  ["Ctrl+Z", "undo", (app) => app.undo()],
  ["Ctrl+Shift+Z Ctrl+Y", "redo", (app) => app.redo()],
  ["F Ctrl+Enter", "fill", (app) => app.filling.fill()],
  ["N", "variants", (app) => app.filling.variants()],
  ["B", "brush", (app) => app.setTool("brush")],
  ["E", "eraser", (app) => app.setTool("eraser")],
  ["R", "rectangle", (app) => app.setTool("rectangle")],
  ["L", "lasso", (app) => app.setTool("lasso")],
  ["P", "polygon", (app) => app.setTool("polygon")],
  ["S", "select", (app) => app.setTool("select")],
  ["K", "bucket", (app) => app.setTool("bucket")],
  ["Y", "eyedropper", (app) => app.setTool("eyedropper")],
  ["H", "hand", (app) => app.setTool("hand")],
  ["X", "takeAway", (app) => app.setTakesAway()],
  ["[ ]", "kBrushSize", (app, event) => app.setBrush(app.brush * (event.key === "]" ? 1.2 : 1 / 1.2))],
  ["G", "kGrow", (app) => app.masking.grow(1)],
  ["Shift+G", "kShrink", (app) => app.masking.grow(-1)],
  ["I", "kInvert", (app) => app.masking.invert()],
  ["Delete Backspace", "kClear", (app) => app.masking.clear()],
  ["M", "saveMask", (app) => app.saving.mask()],
  ["O", "editLabels", (app) => app.labels.toggle()],
  [", .", "kClass", (app, event) => app.labels.step(event.key === "." ? 1 : -1)],
  ["+ = -", "kZoom", (app, event) => app.view.setZoom(app.view.zoom * (event.key === "-" ? 1 / 1.5 : 1.5))],
  ["0", "fit", (app) => app.view.fit()],
  ["1", "actual", (app) => app.view.setZoom(1)],
  ["C", "kHold", (app) => app.comparing.hold(true)],
  ["V", "slider", (app) => app.comparing.set("slider")],
  ["D", "difference", (app) => app.comparing.set("difference")],
  ["ArrowLeft ArrowRight ArrowUp ArrowDown", "kCursor", null],
  ["Enter", "kEnter", null],
  ["Escape", "kEscape", (app) => app.escape()],
  ["Space", "kPan", null],
  ["Alt", "kErase", null],
  ["PageUp PageDown", "kStrip", (app, event) => app.strip.step(event.key === "PageDown" ? 1 : -1)],
  ["T", "theme", (app) => app.toggleTheme()],
  ["?", "shortcuts", (app) => app.showKeys()],
];

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const TABLE = new Map();
for (const [keys, , action] of SHORTCUTS) if (action) for (const key of keys.split(" ")) TABLE.set(key, action);

function nameOf(event) {
  const key = event.key.length === 1 ? event.key.toUpperCase() : event.key;
  const letter = /^[A-Z]$/.test(key);
  const shift = event.shiftKey && (letter || event.key.length > 1) ? "Shift+" : "";
  return `${event.ctrlKey || event.metaKey ? "Ctrl+" : ""}${shift}${key}`;
}

export function listen(app) {
  const { stage, input } = app;
  const types = (target) => target.tagName === "SELECT" || target.type === "number";
  document.addEventListener("keydown", (event) => {
    if (event.target.closest("dialog")) return;
    if (event.target === stage && onStage(app, event)) return event.preventDefault();
    if (types(event.target) && !event.ctrlKey && !event.metaKey && event.key !== "Escape") return undefined;
    if (event.repeat && event.key.toUpperCase() === "C") return undefined;
    const name = nameOf(event);
    if (name === "Ctrl+C" && String(getSelection())) return undefined;
    const action = TABLE.get(name);
    if (!action) return undefined;
    event.preventDefault();
    action(app, event);
    return undefined;
  });
  document.addEventListener("keyup", (event) => {
    if (event.key.toUpperCase() === "C") app.comparing.hold(false);
    if (event.key === " ") input.space = false;
  });
  window.addEventListener("blur", () => {
    app.comparing.hold(false);
    input.space = false;
  });
}

/** Keys that mean something on the picture only. */
function onStage({ input, view }, event) {
  if (event.key === " ") {
    input.space = true;
    return true;
  }
  if (event.ctrlKey || event.metaKey) return false;
  if (event.key === "Enter") {
    input.pressKey(event.altKey);
    return true;
  }
  const arrow = ARROWS[event.key];
  if (!arrow) return false;
  const step = event.shiftKey ? 50 : 10;
  if (event.altKey) view.panBy(-arrow[0] * step, -arrow[1] * step);
  else input.moveKey(arrow[0] * step, arrow[1] * step);
  return true;
}

export function fillSheet(list) {
  const names = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", PageUp: "Page ↑", PageDown: "Page ↓" };
  list.replaceChildren();
  for (const [keys, text] of SHORTCUTS) {
    const key = document.createElement("dt");
    key.textContent = keys.split(" ").map((each) => names[each] ?? each).join("  ");
    const meaning = document.createElement("dd");
    meaning.textContent = t(text);
    list.append(key, meaning);
  }
}
