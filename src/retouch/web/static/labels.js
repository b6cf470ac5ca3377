// The semantic editor: the label map over the picture, painted in class colours; each edit is drawn
// anew by the network's decoder alone.

import { maskEntry } from "./picture.js";
import { Plane } from "./plane.js";
import { labelsPng, pixels } from "./png.js";
import { grow, subtract } from "./shapes.js";
import { className, t } from "./strings.js";
import { colorTable } from "./view.js";

const UNKNOWN = 255;
const FAINT = 0.35; // opacity of labels outside what may be painted, as a share
const MARGIN = 4; // labels may be painted so far outside the hole [px]

export class Labels {
  constructor(app) {
    this.app = app;
    this.legend = document.getElementById("legend");
    this.value = 0;
    this.opacity = 0.55;
    this.legend.addEventListener("keydown", (event) => this.#arrow(event));
  }

  get editing() {
    return this.app.doc?.editing ?? null;
  }

  get rendering() {
    return Boolean(this.editing?.rendering);
  }

  toggle() {
    const { app } = this;
    if (!app.doc) return;
    if (this.editing) this.end();
    else if (!app.model?.labels) app.say("noLabels");
    else this.begin().catch((error) => app.fail(error));
  }

  /** Begin on the mask; if nothing is masked, go on with the last map, or on the last fill's hole. */
  async begin() {
    const { app } = this;
    const { doc, server } = app;
    const options = app.filling.options();
    const last = doc.mask.isEmpty ? doc.done.findLast((entry) => entry.hole) : null;
    if (last?.editing?.options.network === options.network && last.patch === doc.patches.at(-1)) {
      return this.#enter(doc, last.editing);
    }
    const hole = last?.hole ?? doc.mask;
    const base = last ? doc.patches.slice(0, -1) : doc.patches;
    const mask = await doc.maskPart(hole);
    if (!mask) return app.say("emptyMask");
    const editing = { base, mask, options, hole: hole.copy(), replaced: last ? doc.patches.at(-1) : null };
    return app.work("encoding", async (handlers) => {
      const begun = await server.begin(doc, base, mask, options, handlers);
      await this.#start(doc, editing, begun);
    });
  }

  async #start(doc, editing, begun) {
    const plane = new Plane(doc.width, doc.height, UNKNOWN);
    const limit = editing.hole.copy();
    limit.begin();
    grow(limit, MARGIN + editing.options.dilate);
    limit.commit();
    Object.assign(editing, {
      session: begun.session, server: begun.server, set: begun.label_set, plane, limit,
      box: { x0: begun.left, y0: begun.top, x1: begun.left + begun.width, y1: begun.top + begun.height },
      proposed: begun.proposed, patch: begun.patch, rendering: false, again: false,
    });
    editing.proposal = await this.#values(begun.map, editing);
    this.app.tool.cancel();
    editing.coarse = { ...begun.coarse, bitmap: await createImageBitmap(begun.coarse.blob) };
    plane.begin();
    plane.write(editing.box, editing.proposal);
    plane.commit();
    plane.limit = limit;
    const entry = await doc.addFill(begun.patch, {
      kind: "labels",
      replaced: editing.replaced,
      clear: editing.replaced ? undefined : (mask) => subtract(mask, editing.hole),
      undoMore: () => this.#leave(doc),
      redoMore: () => this.#enter(doc, editing),
    });
    entry.editing = editing;
    this.#enter(doc, editing);
    this.app.strip.filled(doc);
  }

  /** Classes of a label map file, by colour. */
  async #values(blob, editing) {
    const image = await pixels(blob);
    const { box } = editing;
    if (image.width !== box.x1 - box.x0 || image.height !== box.y1 - box.y0) {
      throw new Error(`${image.width} x ${image.height} px, not ${box.x1 - box.x0} x ${box.y1 - box.y0}`);
    }
    const codes = new Map(editing.set.colors.map(([r, g, b], index) => [(r << 16) | (g << 8) | b, index]));
    const values = new Uint8Array(image.width * image.height);
    for (let i = 0, o = 0; i < values.length; i++, o += 4) {
      const code = (image.data[o] << 16) | (image.data[o + 1] << 8) | image.data[o + 2];
      values[i] = codes.get(code) ?? UNKNOWN;
    }
    return values;
  }

  #enter(doc, editing) {
    doc.editing = editing;
    this.app.showEditing();
    if (this.value >= editing.set.names.length) this.value = 0;
    this.drawLegend();
    this.app.say(editing.proposed ? "labelsReady" : "noProposal");
  }

  #leave(doc) {
    if (doc.editing) this.showCoarse(false);
    doc.editing = null;
    this.app.showEditing();
  }

  end() {
    if (this.editing) this.#leave(this.app.doc);
  }

  overlay() {
    const { set, plane } = this.editing;
    const colors = (alpha) =>
      colorTable(set.colors.map((color, index) => [index, [...color, Math.round(255 * alpha)]]));
    return { plane, colors: colors(this.opacity), faint: colors(FAINT * this.opacity) };
  }

  setOpacity(opacity) {
    this.opacity = opacity;
    if (this.editing) this.app.view.overlay = this.overlay();
    this.app.view.invalidate("overlay");
  }

  /** Show what the first stage fills, before any labels. */
  showCoarse(on) {
    const { editing, app } = this;
    if (!editing) return;
    const now = Boolean(editing.patch.shown);
    const wanted = on ?? !now;
    if (wanted !== now) app.doc.showInstead(editing.patch, wanted ? editing.coarse : null);
    this.#markCoarse();
  }

  #markCoarse() {
    document.getElementById("coarse").setAttribute("aria-pressed", String(Boolean(this.editing?.patch.shown)));
  }

  drawLegend() {
    const { set } = this.editing;
    const items = [...set.names.entries(), [UNKNOWN, t("nothing")]].map(([index, name]) => {
      const button = document.createElement("button");
      button.setAttribute("role", "radio");
      button.dataset.class = index;
      const swatch = document.createElement("i");
      swatch.style.background = index === UNKNOWN ? "transparent" : `rgb(${set.colors[index].join()})`;
      button.append(swatch, index === UNKNOWN ? name : className(name));
      button.onclick = () => this.pick(index);
      return button;
    });
    this.legend.replaceChildren(...items);
    this.pick(this.value);
  }

  pick(index) {
    this.value = index;
    for (const button of this.legend.children) {
      const chosen = Number(button.dataset.class) === index;
      button.setAttribute("aria-checked", String(chosen));
      button.tabIndex = chosen ? 0 : -1;
      if (chosen) button.scrollIntoView({ block: "nearest" });
    }
  }

  #arrow(event) {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    this.step(by);
    this.legend.querySelector("[aria-checked=true]")?.focus();
  }

  step(by) {
    const { editing } = this;
    if (!editing) return;
    const count = editing.set.names.length;
    this.pick(((this.value === UNKNOWN ? 0 : this.value + by) + count) % count);
  }

  /** A stroke is over: remember it and render. */
  commit(kind) {
    const { editing, app } = this;
    const change = editing.plane.commit();
    if (!change) return;
    const entry = maskEntry(`label ${kind}`, editing.plane, change);
    const { undo, redo } = entry;
    const { doc } = app;
    const again = (change) => () => {
      if (doc.editing !== editing) this.#enter(doc, editing);
      change();
      this.render();
    };
    entry.undo = again(undo);
    entry.redo = again(redo);
    doc.remember(entry);
    this.render();
  }

  /** Render the map as it is now; edits that come meanwhile are rendered together afterwards. */
  async render() {
    const { doc, server } = this.app;
    const editing = doc.editing;
    if (!editing) return;
    editing.again = true;
    if (editing.rendering) return;
    editing.rendering = true;
    const started = performance.now();
    try {
      while (editing.again) {
        editing.again = false;
        const map = await this.map(editing);
        const patch = await server.persist(() => this.#ask(doc, editing, map));
        patch.bitmap = await createImageBitmap(patch.blob);
        doc.exchange(editing.patch, patch);
      }
      this.#markCoarse();
      this.app.say("rendered", { seconds: (performance.now() - started) / 1000 });
      this.app.strip.filled(doc);
    } catch (error) {
      this.app.fail(error);
    } finally {
      editing.rendering = false;
    }
  }

  /** Render; if the server has forgotten the session, begin it again first. */
  async #ask(doc, editing, map) {
    const { server } = this.app;
    if (editing.server !== doc.key || !doc.key) {
      const begun = await server.begin(doc, editing.base, editing.mask, editing.options, { progress() {} });
      editing.session = begun.session;
      editing.server = doc.key;
    }
    try {
      return await server.render(doc, editing.session, map);
    } catch (error) {
      if (error.status === 404) {
        doc.key = null;
        error.forgotten = true;
      }
      throw error;
    }
  }

  map({ plane, box, set } = this.editing) {
    return labelsPng(plane.read(box), box.x1 - box.x0, box.y1 - box.y0, set.colors);
  }

  #write(values, kind) {
    const { plane, box } = this.editing;
    plane.begin();
    plane.write(box, values);
    this.app.view.refresh();
    this.commit(kind);
  }

  reset() {
    if (this.editing) this.#write(this.editing.proposal, "reset");
  }

  async load(file) {
    if (!this.editing) return;
    try {
      this.#write(await this.#values(file, this.editing), "load");
    } catch (error) {
      this.app.fail(error);
    }
  }
}
