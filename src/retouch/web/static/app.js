// The page: the open picture, the tools, and what is said. What people do with a picture stands in
// `filling.js`, `masking.js`, `labels.js`, `comparing.js` and `saving.js`; `wiring.js` joins it to
// the buttons.

import { Comparing } from "./comparing.js";
import { Filling } from "./filling.js";
import { Input, LARGEST_BRUSH } from "./input.js";
import { fillSheet, listen } from "./keys.js";
import { Labels } from "./labels.js";
import { Masking } from "./masking.js";
import { drawHistory } from "./panel.js";
import { Saving } from "./saving.js";
import { Server, Stopped } from "./server.js";
import { setLanguage, t } from "./strings.js";
import { Strip } from "./strip.js";
import { makeTools } from "./tools.js";
import { colorTable, View } from "./view.js";
import { wire } from "./wiring.js";

const $ = (id) => document.getElementById(id);
const MASK = { colors: colorTable([[1, [255, 40, 60, 140]]]), stripes: colorTable([[1, [255, 170, 190, 140]]]) };
const FOR_A_PICTURE = [
  "save", "copy", "fill", "variants", "fit", "actual", "zoomIn", "zoomOut", "hold", "slider", "difference",
];
const FOR_A_MASK = ["grow", "shrink", "invert", "clear", "saveMask", "saveMasked", "loadMask"];

export class App {
  constructor() {
    this.server = new Server();
    this.stage = $("stage");
    this.view = new View(this.stage);
    this.doc = null;
    this.models = [];
    this.brush = 40;
    this.takesAway = false;
    this.abort = null;
    this.comparing = new Comparing(this);
    this.filling = new Filling(this);
    this.masking = new Masking(this);
    this.saving = new Saving(this);
    this.labels = new Labels(this);
    this.tools = makeTools(this.#host());
    this.tool = this.tools.brush;
    this.input = new Input(this, this.stage);
    this.strip = new Strip(this, $("strip"));
    this.listener = () => this.refresh();
    wire(this);
    listen(this);
    this.setTool("brush");
    this.setBrush(40);
    this.refresh();
  }

  #host() {
    return {
      plane: () => this.doc.editing?.plane ?? this.doc.mask,
      value: (erase) => (this.doc.editing ? (erase ? 255 : this.labels.value) : erase ? 0 : 1),
      commit: (kind) => this.#commit(kind),
      refresh: () => this.view.refresh(),
      outline: (draw) => {
        this.view.outline = draw;
        this.view.invalidate("outline");
      },
      select: (point) => this.masking.select(point),
      endSelect: () => this.masking.endSelect(),
      pick: (value) => this.labels.pick(value),
      zoom: () => this.view.zoom / this.view.scale,
    };
  }

  #commit(kind) {
    this.view.refresh();
    if (this.doc.editing) this.labels.commit(kind);
    else {
      this.doc.commitMask(kind);
      if ($("auto").checked && kind !== "eraser" && !this.doc.mask.isEmpty) this.filling.fill();
    }
  }

  /** Show a picture that is open already. */
  async show(doc) {
    this.doc?.removeEventListener("change", this.listener);
    this.say("opening", { name: doc.name });
    try {
      await doc.load();
    } catch (error) {
      this.fail(error);
      return false;
    }
    this.tool.cancel();
    this.doc = doc;
    doc.addEventListener("change", this.listener);
    doc.addEventListener("turned", () => this.view.show(doc), { once: true });
    $("welcome").hidden = true;
    this.view.show(doc);
    this.comparing.set("none");
    this.showEditing();
    this.setBrush(Math.max(8, Math.round(Math.max(doc.width, doc.height) / 40)));
    this.say("opened", { name: doc.name, width: doc.width, height: doc.height });
    this.refresh();
    return true;
  }

  // -- saying things ---------------------------------------------------------------------------

  say(key, places) {
    $("status").textContent = t(key, places);
  }

  fail(error) {
    if (error instanceof Stopped) this.say("cancelled");
    else this.say("failed", { reason: error.message || String(error) });
  }

  get model() {
    return this.models.find((each) => each.name === $("network").value);
  }

  refresh() {
    const { doc, model } = this;
    this.view.refresh();
    for (const id of FOR_A_PICTURE) $(id).disabled = !doc;
    for (const id of FOR_A_MASK) $(id).disabled = !doc || Boolean(doc.editing);
    $("undo").disabled = !doc?.done.length;
    $("redo").disabled = !doc?.undone.length;
    $("place").textContent = doc ? `${doc.name}  ${doc.width} x ${doc.height}` : "";
    $("editLabels").disabled = !doc || !(model?.labels || doc.editing);
    $("labelNote").textContent = model && !model.labels && !doc?.editing ? t("noLabels") : "";
    $("networkNote").textContent = model ? `${model.network} · ${model.license}` : "";
    $("networkNote").title = model?.data.join(", ") ?? "";
    if (this.abort) $("fill").disabled = $("variants").disabled = true;
    drawHistory($("history"), this);
    this.strip.mark();
  }

  /** Say everything in another language. */
  speak(code) {
    setLanguage(code);
    $("status").textContent = "";
    this.showEditing();
    if (this.doc?.editing) this.labels.drawLegend();
  }

  /** Long work with progress and cancellation. */
  async work(text, act) {
    if (this.abort) return undefined;
    this.abort = new AbortController();
    $("working").hidden = false;
    $("fill").disabled = $("variants").disabled = true;
    this.say(text);
    const progress = (job) => {
      $("progress").value = job.progress;
      if (job.state === "queued" && job.position) this.say("waiting", { count: job.position });
      else this.say(text);
    };
    try {
      return await act({ progress, signal: this.abort.signal });
    } catch (error) {
      this.fail(error);
      return undefined;
    } finally {
      this.abort = null;
      $("working").hidden = true;
      $("progress").value = 0;
      this.refresh();
    }
  }

  // -- tools -----------------------------------------------------------------------------------

  undo() {
    if (this.tool.busy) this.tool.cancel();
    else this.doc?.undo();
  }

  redo() {
    this.doc?.redo();
  }

  escape() {
    if (this.tool.busy) this.tool.finish();
    else if (this.abort) this.abort.abort();
    else if (this.comparing.mode !== "none") this.comparing.set("none");
    else this.tool.cancel();
  }

  setTool(name) {
    const editing = Boolean(this.doc?.editing);
    if ((name === "bucket" || name === "eyedropper") && !editing) return;
    if (name === "select" && editing) return;
    this.tool.cancel();
    this.tool = this.tools[name];
    for (const button of document.querySelectorAll("[data-tool]")) {
      button.setAttribute("aria-pressed", String(button.dataset.tool === name));
    }
    this.stage.classList.toggle("brushes", Boolean(this.tool.sized));
    this.stage.classList.toggle("moves", Boolean(this.tool.pans));
    this.input.refresh();
  }

  setBrush(diameter) {
    this.brush = Math.min(LARGEST_BRUSH, Math.max(1, diameter));
    $("size").value = (1000 * Math.log(this.brush)) / Math.log(LARGEST_BRUSH);
    $("sizeShown").textContent = `${Math.round(this.brush)} px`;
    this.input?.refresh();
  }

  /** Let every tool take away, for fingers, which have no second button. */
  setTakesAway(on = !this.takesAway) {
    this.takesAway = on;
    $("takeAway").setAttribute("aria-pressed", String(on));
  }

  /** Show the mask, or the labels while they are edited. */
  showEditing() {
    const { doc } = this;
    const editing = Boolean(doc?.editing);
    this.view.overlay = editing ? this.labels.overlay() : doc && { plane: doc.mask, ...MASK };
    this.view.overlay?.plane.takeDirty();
    $("labelTools").hidden = !editing;
    $("maskPanel").hidden = $("fillPanel").hidden = editing;
    $("editLabels").textContent = t(editing ? "endLabels" : "editLabels");
    for (const button of document.querySelectorAll(".for-labels")) button.hidden = !editing;
    for (const button of document.querySelectorAll(".for-mask")) button.hidden = editing;
    this.setTool("brush");
    this.view.invalidate("overlay");
    this.refresh();
  }

  toggleTheme() {
    const root = document.documentElement;
    root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
    localStorage.setItem("retouch-theme", root.dataset.theme);
  }

  showKeys() {
    fillSheet($("keys"));
    $("sheet").showModal();
  }
}

window.retouch = new App();
