// The page: what its buttons do, and how its parts work together.

import { addIcons } from "./icons.js";
import { Input } from "./input.js";
import { fillSheet, listen } from "./keys.js";
import { Labels } from "./labels.js";
import { drawHistory, readable } from "./panel.js";
import { pixels } from "./png.js";
import { Server, Stopped } from "./server.js";
import { clear, grow, invert } from "./shapes.js";
import { languages, setLanguage, t } from "./strings.js";
import { Strip } from "./strip.js";
import { makeTools } from "./tools.js";
import { colorTable, View } from "./view.js";

const $ = (id) => document.getElementById(id);
const MASK = colorTable([[1, [255, 60, 60, 128]]]);
const LARGEST_BRUSH = 2000;

export class App {
  constructor() {
    this.server = new Server();
    this.stage = $("stage");
    this.view = new View(this.stage);
    this.doc = null;
    this.models = [];
    this.brush = 40;
    this.compareMode = "none";
    this.abort = null;
    this.tools = makeTools(this.#host());
    this.tool = this.tools.brush;
    this.input = new Input(this, this.stage);
    this.labels = new Labels(this);
    this.strip = new Strip(this, $("strip"));
    this.listener = () => this.refresh();
    this.#bindButtons();
    this.#bindFiles();
    this.#bindServer();
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
      select: (point) => this.#select(point),
      pick: (value) => this.labels.pick(value),
      zoom: () => this.view.zoom / this.view.scale,
    };
  }

  #commit(kind) {
    this.view.refresh();
    if (this.doc.editing) this.labels.commit(kind);
    else {
      this.doc.commitMask(kind);
      if ($("auto").checked && kind !== "eraser" && !this.doc.mask.isEmpty) this.fill();
    }
  }

  // -- opening ---------------------------------------------------------------------------------

  chooseFile() {
    $("file").click();
  }

  /** Show a picture that is open already. */
  async show(doc) {
    this.labels.again = false;
    this.doc?.removeEventListener("change", this.listener);
    this.say("opening", { name: doc.name });
    try {
      await doc.load();
    } catch (error) {
      this.fail(error);
      return false;
    }
    this.doc = doc;
    doc.addEventListener("change", this.listener);
    doc.addEventListener("turned", () => this.view.show(doc), { once: true });
    $("welcome").hidden = true;
    this.view.show(doc);
    this.setCompare("none");
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

  refresh() {
    const { doc } = this;
    this.view.refresh();
    for (const id of ["save", "copy", "fill", "fit", "actual", "zoomIn", "zoomOut", "hold", "slider", "difference"]) {
      $(id).disabled = !doc;
    }
    for (const id of ["grow", "shrink", "invert", "clear", "saveMask", "saveMasked", "loadMask"]) {
      $(id).disabled = !doc || Boolean(doc.editing);
    }
    $("undo").disabled = !doc?.done.length;
    $("redo").disabled = !doc?.undone.length;
    $("place").textContent = doc ? `${doc.name}  ${doc.width} x ${doc.height}` : "";
    const model = this.models.find((each) => each.name === $("network").value);
    $("editLabels").disabled = !doc || !(model?.labels || doc.editing);
    $("labelNote").textContent = model && !model.labels && !doc?.editing ? t("noLabels") : "";
    drawHistory($("history"), this);
    this.strip.mark();
  }

  /** Long work with progress and cancellation. */
  async work(text, act) {
    if (this.abort) return undefined;
    this.abort = new AbortController();
    $("working").hidden = false;
    $("fill").disabled = true;
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

  // -- what people do --------------------------------------------------------------------------

  options() {
    const dilate = Number($("dilate").value) || 0;
    const feather = Math.min(dilate, Number($("feather").value) || 0);
    const network = $("network").value || null;
    return network ? { network, dilate, feather } : { dilate, feather };
  }

  async fill() {
    const { doc, server } = this;
    if (!doc || this.abort) return;
    if (doc.editing) {
      this.labels.end();
      return;
    }
    const mask = await doc.maskPart();
    if (!mask) {
      this.say("emptyMask");
      return;
    }
    const asked = doc.mask.copy();
    const started = performance.now();
    const options = this.options();
    await this.work("filling", async (handlers) => {
      const patch = await server.fill(doc, doc.patches, mask, options, handlers);
      const unasked = (now) => keepNew(now, asked);
      await doc.addFill(patch, { clear: unasked, label: options.network ?? "" });
      this.say("filled", { seconds: ((performance.now() - started) / 1000).toFixed(1) });
      this.strip.filled(doc);
    });
    if ($("auto").checked && doc === this.doc && !doc.mask.isEmpty) await this.fill();
  }

  undo() {
    if (this.tool.busy) this.tool.cancel();
    else this.doc?.undo();
  }

  redo() {
    this.doc?.redo();
  }

  #edit(kind, work) {
    if (!this.doc || this.doc.editing) return;
    this.doc.editMask(kind, work);
    this.view.refresh();
  }

  growMask(sign) {
    const by = Math.max(1, Math.min(256, Number($("by").value) || 4));
    this.#edit(sign > 0 ? "grow" : "shrink", (mask) => grow(mask, sign * by));
  }

  invertMask() {
    this.#edit("invert", invert);
  }

  clearMask() {
    this.#edit("clear", clear);
  }

  async #select(point) {
    const { doc, server } = this;
    const inside = { x: Math.floor(point.x), y: Math.floor(point.y), inside: !point.erase };
    this.clicks = this.clicks?.doc === doc && this.clicks.end === doc.done.length ? this.clicks : { doc, points: [] };
    this.clicks.points.push(inside);
    await this.work("selecting", async ({ signal }) => {
      const found = await server.select(doc, doc.patches, this.clicks.points, signal);
      if (this.clicks.change) doc.undo();
      await this.#addMask(found.blob, found.left, found.top, "select");
      this.clicks.change = true;
      this.clicks.end = doc.done.length;
      this.say("select");
    });
  }

  async #addMask(blob, left, top, kind) {
    const { width, height, data } = await pixels(blob);
    this.#edit(kind, (mask) => {
      for (let y = 0; y < height; y++) {
        for (let x = 0, start = -1; x <= width; x++) {
          const o = 4 * (y * width + x);
          const white = x < width && data[o + 3] > 127 && data[o] + data[o + 1] + data[o + 2] >= 384;
          if (white && start < 0) start = x;
          if (!white && start >= 0) {
            mask.span(top + y, left + start, left + x, 1);
            start = -1;
          }
        }
      }
    });
  }

  async loadMask(file) {
    try {
      const size = await createImageBitmap(file);
      if (size.width !== this.doc.width || size.height !== this.doc.height) {
        throw new Error(`${size.width} x ${size.height} px, not ${this.doc.width} x ${this.doc.height}`);
      }
      size.close();
      await this.#addMask(file, 0, 0, "load");
    } catch (error) {
      this.fail(error);
    }
  }

  async saveMask() {
    const { doc } = this;
    if (!doc) return;
    const { maskPng } = await import("./png.js");
    const box = { x0: 0, y0: 0, x1: doc.width, y1: doc.height };
    this.#download(await maskPng(doc.mask.read(box), doc.width, doc.height), `${stem(doc)}_mask.png`);
  }

  /** The picture as shown, with the masked part transparent. */
  saveMasked() {
    const { doc } = this;
    const canvas = new OffscreenCanvas(doc.width, doc.height);
    const context = canvas.getContext("2d");
    context.drawImage(doc.current.levels[0], 0, 0);
    for (let y = 0; y < doc.height; y++) {
      const row = doc.mask.read({ x0: 0, y0: y, x1: doc.width, y1: y + 1 });
      for (let x = 0, start = -1; x <= row.length; x++) {
        if (row[x] && start < 0) start = x;
        if (!row[x] && start >= 0) {
          context.clearRect(start, y, x - start, 1);
          start = -1;
        }
      }
    }
    canvas.convertToBlob().then((blob) => this.#download(blob, `${stem(doc)}_masked.png`));
  }

  async save() {
    const { doc, server } = this;
    if (!doc) return;
    const options = { lossless: $("lossless").checked };
    await this.work("save", async () => {
      let name;
      if (doc.offered) name = (await server.saveOffered(doc, doc.patches, options)).name;
      else {
        const blob = await server.save(doc, doc.patches, options);
        const suffix = options.lossless ? readable(blob.type) : doc.name.slice(doc.name.lastIndexOf("."));
        name = `${stem(doc)}_filled${suffix}`;
        this.#download(blob, name);
      }
      doc.saved = doc.done.length;
      this.say("saved", { name });
    });
  }

  #download(blob, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }

  async copy() {
    if (!this.doc) return;
    const canvas = new OffscreenCanvas(this.doc.width, this.doc.height);
    canvas.getContext("2d").drawImage(this.doc.current.levels[0], 0, 0);
    try {
      await navigator.clipboard.write([new ClipboardItem({ "image/png": canvas.convertToBlob() })]);
      this.say("copied");
    } catch (error) {
      this.fail(error);
    }
  }

  // -- comparing -------------------------------------------------------------------------------

  hold(on) {
    if (!this.doc) return;
    this.view.compare.mode = on ? "original" : this.compareMode;
    this.view.invalidate("picture", "overlay");
  }

  setCompare(mode) {
    this.compareMode = this.compareMode === mode ? "none" : mode;
    for (const id of ["slider", "difference"]) $(id).setAttribute("aria-pressed", String(this.compareMode === id));
    $("split").hidden = this.compareMode !== "slider";
    this.hold(false);
    if (this.compareMode === "slider") $("split").focus();
  }

  escape() {
    if (this.tool.busy) this.tool.finish();
    else if (this.abort) this.abort.abort();
    else if (this.compareMode !== "none") this.setCompare("none");
    else this.tool.cancel();
  }

  // -- tools -----------------------------------------------------------------------------------

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

  toggleLabels() {
    if (!this.doc) return;
    if (this.doc.editing) this.labels.end();
    else if ($("editLabels").disabled) this.say("noLabels");
    else this.labels.begin().catch((error) => this.fail(error));
  }

  /** Show the mask, or the labels while they are edited. */
  showEditing() {
    const { doc } = this;
    const editing = Boolean(doc?.editing);
    this.view.overlay = editing ? this.labels.overlay() : doc && { plane: doc.mask, colors: MASK };
    this.view.overlay?.plane.takeDirty();
    $("labelTools").hidden = !editing;
    $("maskPanel").hidden = editing;
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

  // -- wiring ----------------------------------------------------------------------------------

  #bindButtons() {
    addIcons();
    const actions = {
      open: () => this.chooseFile(), openLarge: () => this.chooseFile(), save: () => this.save(),
      copy: () => this.copy(), undo: () => this.undo(), redo: () => this.redo(),
      zoomIn: () => this.view.setZoom(this.view.zoom * 1.5), zoomOut: () => this.view.setZoom(this.view.zoom / 1.5),
      fit: () => this.view.fit(), actual: () => this.view.setZoom(1),
      slider: () => this.setCompare("slider"), difference: () => this.setCompare("difference"),
      theme: () => this.toggleTheme(), help: () => this.showKeys(), fill: () => this.fill(),
      cancel: () => this.abort?.abort(), grow: () => this.growMask(1), shrink: () => this.growMask(-1),
      invert: () => this.invertMask(), clear: () => this.clearMask(), saveMask: () => this.saveMask(),
      saveMasked: () => this.saveMasked(), loadMask: () => $("maskFile").click(),
      editLabels: () => this.toggleLabels(), resetLabels: () => this.labels.reset(),
      loadLabels: () => $("labelFile").click(),
      saveLabels: async () => this.#download(await this.labels.map(), `${stem(this.doc)}_labels.png`),
    };
    for (const [id, act] of Object.entries(actions)) $(id).addEventListener("click", act);
    for (const button of document.querySelectorAll("[data-tool]")) {
      button.addEventListener("click", () => this.setTool(button.dataset.tool));
    }
    const hold = $("hold");
    hold.addEventListener("pointerdown", () => this.hold(true));
    for (const kind of ["pointerup", "pointerleave", "pointercancel"]) hold.addEventListener(kind, () => this.hold(false));
    $("size").addEventListener("input", () => this.setBrush(LARGEST_BRUSH ** ($("size").value / 1000)));
    $("split").addEventListener("input", () => {
      this.view.compare.split = $("split").value / 1000;
      this.view.invalidate("picture");
    });
    $("opacity").addEventListener("input", () => {
      this.labels.opacity = $("opacity").value / 100;
      if (this.doc?.editing) this.view.overlay = this.labels.overlay();
      this.view.invalidate("overlay");
    });
    $("network").addEventListener("change", () => this.refresh());
    this.stage.addEventListener("view", () => ($("zoom").textContent = `${Math.round(100 * this.view.zoom)} %`));
    for (const { code, language } of languages) $("language").append(new Option(language, code));
    const chosen = localStorage.getItem("retouch-language") ?? navigator.language.slice(0, 2);
    $("language").value = languages.some(({ code }) => code === chosen) ? chosen : "en";
    setLanguage($("language").value);
    $("language").addEventListener("change", () => {
      localStorage.setItem("retouch-language", $("language").value);
      setLanguage($("language").value);
      this.showEditing();
      if (this.doc?.editing) this.labels.drawLegend();
    });
    const dark = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    document.documentElement.dataset.theme = localStorage.getItem("retouch-theme") ?? dark;
  }

  #bindFiles() {
    const taken = (input, act) => {
      input.addEventListener("change", () => {
        if (input.files.length) act([...input.files]);
        input.value = "";
      });
    };
    taken($("file"), (files) => this.strip.add(files));
    taken($("maskFile"), ([file]) => this.loadMask(file));
    taken($("labelFile"), ([file]) => this.labels.load(file));
    document.addEventListener("dragover", (event) => {
      event.preventDefault();
      this.stage.classList.add("dropping");
    });
    document.addEventListener("dragleave", () => this.stage.classList.remove("dropping"));
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      this.stage.classList.remove("dropping");
      if (event.dataTransfer.files.length) this.strip.add([...event.dataTransfer.files]);
    });
    document.addEventListener("paste", (event) => {
      const file = [...event.clipboardData.files].find((each) => each.type.startsWith("image/"));
      if (!file) return;
      event.preventDefault();
      this.strip.add([file]);
    });
    window.addEventListener("beforeunload", (event) => {
      if (this.strip.hasUnsaved) event.preventDefault();
    });
  }

  #bindServer() {
    const lost = $("lost");
    this.server.addEventListener("lost", () => {
      lost.textContent = t("lost");
      lost.hidden = false;
    });
    this.server.addEventListener("back", () => {
      lost.hidden = true;
      this.say("back");
    });
    const { server } = this;
    server.persist(() => server.offered()).then((offered) => this.strip.offer(offered), (error) => this.fail(error));
    server.persist(() => server.models()).then((models) => this.#offerModels(models), (error) => this.fail(error));
  }

  #offerModels(models) {
    this.models = models;
    for (const model of models) $("network").append(new Option(model.name, model.name, model.default, model.default));
    if (!models.length) this.say("noNetwork");
    this.refresh();
  }
}

/** Take away the mask that a fill has dealt with; what was painted meanwhile stays. */
function keepNew(mask, asked) {
  const box = asked.bounds();
  const now = mask.read(box);
  const then = asked.read(box);
  for (let i = 0; i < now.length; i++) if (then[i]) now[i] = 0;
  mask.write(box, now);
}

function stem(doc) {
  const dot = doc.name.lastIndexOf(".");
  return dot > 0 ? doc.name.slice(0, dot) : doc.name;
}

window.retouch = new App();
