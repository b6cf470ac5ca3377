// The semantic editor: the label map over the picture, painted in class colours; each edit is drawn
// anew by the network's decoder alone.

import { maskEntry } from "./picture.js";
import { Plane } from "./plane.js";
import { labelsPng, pixels } from "./png.js";
import { clear, grow } from "./shapes.js";
import { t } from "./strings.js";
import { colorTable } from "./view.js";

const UNKNOWN = 255;
const MARGIN = 4; // labels may be painted so far outside the hole [px]

export class Labels {
  constructor(app) {
    this.app = app;
    this.legend = document.getElementById("legend");
    this.value = 0;
    this.opacity = 0.55;
    this.rendering = null;
    this.again = false;
  }

  get editing() {
    return this.app.doc?.editing ?? null;
  }

  /** Begin on the mask, or on the hole of the last fill if nothing is masked. */
  async begin() {
    const { app } = this;
    const { doc, server } = app;
    let hole = doc.mask;
    if (hole.isEmpty) hole = doc.done.findLast((entry) => entry.hole)?.hole ?? hole;
    const base = hole === doc.mask ? doc.patches : doc.patches.slice(0, -1);
    const mask = await doc.maskPart(hole);
    if (!mask) return app.say("emptyMask");
    const editing = { base, mask, options: app.options(), hole: hole.copy() };
    return app.work("encoding", async (handlers) => {
      const begun = await server.begin(doc, base, mask, editing.options, handlers);
      await this.#start(doc, editing, begun);
    });
  }

  async #start(doc, editing, begun) {
    const plane = new Plane(doc.width, doc.height, UNKNOWN);
    const limit = editing.hole.copy();
    limit.begin();
    grow(limit, MARGIN);
    limit.commit();
    Object.assign(editing, {
      session: begun.session, server: begun.server, set: begun.label_set, plane, limit,
      box: { x0: begun.left, y0: begun.top, x1: begun.left + begun.width, y1: begun.top + begun.height },
      proposed: begun.proposed,
    });
    editing.proposal = await this.#values(begun.map, editing);
    plane.begin();
    plane.write(editing.box, editing.proposal);
    plane.commit();
    plane.limit = limit;
    const replaced = editing.base === doc.patches ? null : doc.patches.at(-1);
    await doc.addFill(begun.patch, {
      kind: "labels", replaced,
      clear: (mask) => clear(mask),
      undoMore: () => this.#leave(doc),
      redoMore: () => this.#enter(doc, editing),
    });
    editing.patch = begun.patch;
    this.#enter(doc, editing);
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
    if (!editing.proposed) this.app.say("noProposal");
  }

  #leave(doc) {
    doc.editing = null;
    this.app.showEditing();
  }

  end() {
    if (this.editing) this.#leave(this.app.doc);
  }

  overlay() {
    const { set, plane } = this.editing;
    const alpha = Math.round(255 * this.opacity);
    return { plane, colors: colorTable(set.colors.map((color, index) => [index, [...color, alpha]])) };
  }

  drawLegend() {
    const { set } = this.editing;
    const items = [...set.names.entries(), [UNKNOWN, t("nothing")]].map(([index, name]) => {
      const button = document.createElement("button");
      button.setAttribute("role", "radio");
      button.dataset.class = index;
      const swatch = document.createElement("i");
      swatch.style.background = index === UNKNOWN ? "transparent" : `rgb(${set.colors[index].join()})`;
      button.append(swatch, name);
      button.onclick = () => this.pick(index);
      return button;
    });
    this.legend.replaceChildren(...items);
    this.pick(this.value);
  }

  pick(index) {
    this.value = index;
    for (const button of this.legend.children) {
      button.setAttribute("aria-checked", String(Number(button.dataset.class) === index));
    }
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
    entry.undo = () => (undo(), this.render());
    entry.redo = () => (redo(), this.render());
    app.doc.remember(entry);
    this.render();
  }

  /** Render the map as it is now; edits that come meanwhile are rendered together afterwards. */
  async render() {
    if (this.rendering) {
      this.again = true;
      return;
    }
    const { doc, server } = this.app;
    const editing = doc.editing;
    if (!editing) return;
    this.rendering = true;
    const started = performance.now();
    try {
      do {
        this.again = false;
        const map = await this.map();
        const patch = await server.persist(() => this.#ask(doc, editing, map));
        patch.bitmap = await createImageBitmap(patch.blob);
        doc.exchange(editing.patch, patch);
      } while (this.again);
      const seconds = ((performance.now() - started) / 1000).toFixed(2);
      this.app.say("rendered", { seconds });
    } catch (error) {
      this.app.fail(error);
    } finally {
      this.rendering = null;
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

  map() {
    const { plane, box, set } = this.editing;
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
