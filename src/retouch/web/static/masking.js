// What changes the mask beside the tools: grow, shrink, invert, clear, files, and clicks on things.

import { pixels } from "./png.js";
import { clear, grow, invert } from "./shapes.js";

const $ = (id) => document.getElementById(id);
const MARK = 7; // radius of a click's mark on the screen [px]

export class Masking {
  constructor(app) {
    this.app = app;
    this.clicks = null; // {doc, points, change, end} of the thing that is being selected
  }

  edit(kind, work) {
    const { doc, view } = this.app;
    if (!doc || doc.editing) return;
    doc.editMask(kind, work);
    view.refresh();
  }

  grow(sign) {
    const by = Math.max(1, Math.min(256, Number($("by").value) || 4));
    this.edit(sign > 0 ? "grow" : "shrink", (mask) => grow(mask, sign * by));
  }

  invert() {
    this.edit("invert", invert);
  }

  clear() {
    this.edit("clear", clear);
  }

  // -- clicking on things ----------------------------------------------------------------------

  async select(point) {
    const { app } = this;
    const { doc, server } = app;
    const x = Math.floor(point.x);
    const y = Math.floor(point.y);
    if (app.abort || x < 0 || y < 0 || x >= doc.width || y >= doc.height) return;
    const continues = this.clicks?.doc === doc && this.clicks.end === doc.done.length;
    if (!continues) this.clicks = { doc, points: [], end: doc.done.length };
    const { clicks } = this;
    clicks.points.push({ x, y, inside: !point.erase });
    app.view.outline = (context, view) => this.#draw(context, view);
    app.view.invalidate("outline");
    const done = await app.work("selecting", async ({ signal }) => {
      const found = await server.select(doc, doc.patches, clicks.points, signal);
      if (clicks.change) doc.undo();
      await this.#add(found.blob, found.left, found.top, "select");
      clicks.change = doc.done.length > clicks.end || clicks.change;
      clicks.end = doc.done.length;
      app.say(found.byColor ? "selectedByColor" : "selected");
      return true;
    });
    if (!done) clicks.points.pop();
    app.view.invalidate("outline");
  }

  /** The next click begins another thing. */
  endSelect() {
    this.clicks = null;
    this.app.view.outline = null;
    this.app.view.invalidate("outline");
  }

  #draw(context, view) {
    const { clicks, app } = this;
    if (!clicks || clicks.doc !== app.doc) return;
    if (clicks.end !== app.doc.done.length && !app.abort) return;
    for (const { x, y, inside } of clicks.points) {
      mark(context, view.x + (x + 0.5) * view.zoom, view.y + (y + 0.5) * view.zoom, inside, view.scale);
    }
  }

  // -- files -----------------------------------------------------------------------------------

  async #add(blob, left, top, kind) {
    const { width, height, data } = await pixels(blob);
    this.edit(kind, (mask) => {
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

  async load(file) {
    const { doc } = this.app;
    try {
      const bitmap = await createImageBitmap(file);
      const { width, height } = bitmap;
      bitmap.close();
      if (width !== doc.width || height !== doc.height) {
        throw new Error(`${width} x ${height} px, not ${doc.width} x ${doc.height}`);
      }
      await this.#add(file, 0, 0, "load");
    } catch (error) {
      this.app.fail(error);
    }
  }
}

/** A disc with a plus (in the thing) or a minus (beside it). */
function mark(context, x, y, inside, scale) {
  const r = MARK * scale;
  context.setLineDash([]);
  context.beginPath();
  context.arc(x, y, r, 0, 7);
  context.fillStyle = inside ? "#0a6b2d" : "#8a1020";
  context.fill();
  context.strokeStyle = "#fff";
  context.lineWidth = 2 * scale;
  context.stroke();
  context.beginPath();
  context.moveTo(x - r / 2, y);
  context.lineTo(x + r / 2, y);
  if (inside) {
    context.moveTo(x, y - r / 2);
    context.lineTo(x, y + r / 2);
  }
  context.stroke();
}
