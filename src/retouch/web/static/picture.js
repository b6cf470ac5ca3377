// One open picture: its file, what lies over it, the mask, and all that can be undone.

import { Plane } from "./plane.js";
import { maskPng } from "./png.js";
import { Pyramid } from "./pyramid.js";

const SHOWN_BY_BROWSERS = /^image\/(jpeg|png|webp|bmp|avif)$/;

export class OpenPicture extends EventTarget {
  constructor(file, server) {
    super();
    this.file = file;
    this.name = file.name || "picture.png";
    this.server = server;
    this.key = null; // the server's name for it, while it remembers
    this.opening = null; // while it is being brought
    this.offered = null; // its place on the command line
    this.width = 0;
    this.height = 0;
    this.facts = null; // what the server says of the file
    this.original = null;
    this.first = null; // a small picture of the original
    this.current = null;
    this.patches = []; // fills that show now, the lowest first
    this.mask = null;
    this.done = []; // entries {kind, undo(), redo(), ...}
    this.undone = [];
    this.saved = null; // `patches` at the last save
    this.editing = null; // semantic editing
  }

  /** Decode, here if the browser can, else by the server. */
  async load() {
    if (this.original) return;
    await this.#hold();
    const bitmap = await this.#decode();
    this.width = bitmap.width;
    this.height = bitmap.height;
    this.original = Pyramid.from(bitmap);
    this.mask ??= new Plane(this.width, this.height);
    this.#renew({ x0: 0, y0: 0, x1: this.width, y1: this.height });
    this.first ??= thumbnail(this.original);
  }

  /** Keep the bytes: the file on the disk may be moved or changed before the server needs them. */
  async #hold() {
    if (this.held) return;
    const { name, type } = this.file;
    this.file = new File([await this.file.arrayBuffer()], name, { type });
    this.held = true;
  }

  async #decode() {
    const type = await sniff(this.file);
    if (SHOWN_BY_BROWSERS.test(type)) {
      try {
        const bitmap = await createImageBitmap(new Blob([this.file], { type }));
        const { width, height } = bitmap; // the bitmap itself is closed soon
        this.#agree(width, height).catch((error) => this.dispatchEvent(new CustomEvent("refused", { detail: error })));
        return bitmap;
      } catch {
        // damaged, or a kind this browser does not know: the server says which
      }
    }
    return createImageBitmap(await this.server.persist(() => this.server.view(this)));
  }

  /** The server may see the picture turned otherwise (EXIF of a PNG): then its view counts. */
  async #agree(width, height) {
    await this.server.persist(() => this.server.bring(this, []));
    const { facts } = this;
    const same = facts.width === width && facts.height === height;
    if (same && (facts.orientation === 1 || facts.format === "JPEG")) return;
    const view = await createImageBitmap(await this.server.persist(() => this.server.view(this)));
    this.unload();
    this.width = view.width;
    this.height = view.height;
    this.original = Pyramid.from(view);
    this.mask = new Plane(this.width, this.height);
    this.done = [];
    this.undone = [];
    this.#renew({ x0: 0, y0: 0, x1: this.width, y1: this.height });
    this.first = thumbnail(this.original);
    this.dispatchEvent(new Event("turned"));
  }

  get isUnsaved() {
    return this.patches.length > 0 && this.saved !== this.patches;
  }

  opened(facts) {
    this.key = facts.picture;
    this.facts = facts;
  }

  /** Let go of the large bitmaps of a picture that is not shown. */
  unload() {
    if (this.current !== this.original) this.current?.close();
    this.original?.close();
    this.original = this.current = null;
  }

  // -- what can be undone ----------------------------------------------------------------------

  /** Run an edit of the mask and remember it. */
  editMask(kind, work) {
    this.mask.begin();
    work(this.mask);
    this.commitMask(kind);
  }

  commitMask(kind) {
    const change = this.mask.commit();
    if (change) this.remember(maskEntry(kind, this.mask, change));
  }

  remember(entry) {
    this.done.push(entry);
    this.undone = [];
    this.#changed();
  }

  undo() {
    const entry = this.done.pop();
    if (!entry) return null;
    entry.undo();
    this.undone.push(entry);
    this.#changed();
    return entry;
  }

  redo() {
    const entry = this.undone.pop();
    if (!entry) return null;
    entry.redo();
    this.done.push(entry);
    this.#changed();
    return entry;
  }

  /** Go to the state after `count` entries. */
  goTo(count) {
    while (this.done.length > count) this.undo();
    while (this.done.length < count && this.undone.length) this.redo();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }

  // -- fills -----------------------------------------------------------------------------------

  /** Lay a fill over the picture; the mask that asked for it goes. */
  async addFill(patch, { kind = "fill", clear, replaced = null, label = "", undoMore, redoMore } = {}) {
    patch.bitmap = await createImageBitmap(patch.blob);
    const open = this.mask.isOpen; // a stroke is being painted: it goes on after the fill
    if (open) this.commitMask("brush");
    const hole = this.mask.copy();
    const before = this.patches;
    const kept = replaced ? before.filter((other) => other !== replaced) : before;
    const after = [...kept, patch];
    this.mask.begin();
    clear?.(this.mask);
    const change = this.mask.commit();
    const boxes = [patch, replaced].filter(Boolean).map(boxOf);
    const show = (patches, tiles) => {
      this.patches = patches;
      if (tiles) this.mask.apply(tiles);
      for (const box of boxes) this.#renew(box);
    };
    const entry = {
      kind,
      label,
      patch,
      hole,
      undo: () => (show(before, change?.before), undoMore?.()),
      redo: () => (show(after, change?.after), redoMore?.()),
    };
    this.patches = after;
    for (const box of boxes) this.#renew(box);
    entry.thumbnail = this.thumbnail();
    this.remember(entry);
    if (open) this.mask.begin();
    return entry;
  }

  /** Put newer content into a fill that shows (an edit of its label map). */
  exchange(patch, newer) {
    const { bitmap, left, top, blob, key, server } = newer;
    const before = boxOf(patch);
    Object.assign(patch, { bitmap, left, top, blob, key, server, shown: null });
    this.patches = [...this.patches]; // another state than the saved one
    this.#renew(before);
    this.#renew(boxOf(patch));
    const entry = this.done.findLast((each) => each.patch);
    if (entry?.patch === patch) entry.thumbnail = this.thumbnail();
    this.#changed();
  }

  /** Show something else in the place of a fill, without changing it; null: the fill again. */
  showInstead(patch, other) {
    patch.shown = other;
    this.#renew(boxOf(patch));
  }

  /** Draw a box of the shown picture anew. */
  #renew(box) {
    if (!this.original) return;
    if (this.current === null || this.current === this.original) {
      this.current = this.patches.length ? this.original.copy() : this.original;
      if (this.current === this.original) return this.#redraw(box);
      box = { x0: 0, y0: 0, x1: this.width, y1: this.height };
    }
    const { x0, y0, x1, y1 } = box;
    const context = this.current.levels[0].getContext("2d");
    context.save();
    context.beginPath();
    context.rect(x0, y0, x1 - x0, y1 - y0);
    context.clip();
    context.clearRect(x0, y0, x1 - x0, y1 - y0);
    context.drawImage(this.original.levels[0], x0, y0, x1 - x0, y1 - y0, x0, y0, x1 - x0, y1 - y0);
    for (const patch of this.patches) {
      const { bitmap, left, top } = patch.shown ?? patch;
      context.drawImage(bitmap, left, top);
    }
    context.restore();
    this.current.update(box);
    return this.#redraw(box);
  }

  #redraw(box) {
    this.dispatchEvent(new CustomEvent("redraw", { detail: box }));
  }

  thumbnail() {
    return thumbnail(this.current);
  }

  /** The mask's box as the server wants it: {blob, top, left, box}, or null if it is empty. */
  async maskPart(plane = this.mask) {
    const box = plane.bounds();
    if (!box) return null;
    const blob = await maskPng(plane.read(box), box.x1 - box.x0, box.y1 - box.y0);
    return { blob, top: box.y0, left: box.x0, box };
  }
}

function thumbnail(pyramid, side = 96) {
  const source = pyramid.top;
  const scale = Math.min(1, side / Math.max(source.width, source.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(source.width * scale));
  canvas.height = Math.max(1, Math.round(source.height * scale));
  canvas.getContext("2d").drawImage(source, 0, 0, canvas.width, canvas.height);
  return canvas;
}

export function maskEntry(kind, plane, change) {
  return { kind, undo: () => plane.apply(change.before), redo: () => plane.apply(change.after) };
}

export function boxOf(patch) {
  const { left, top, bitmap } = patch;
  return { x0: left, y0: top, x1: left + bitmap.width, y1: top + bitmap.height };
}

/** What a file is by its first bytes. */
async function sniff(file) {
  const head = new Uint8Array(await file.slice(0, 32).arrayBuffer());
  const text = String.fromCharCode(...head);
  if (text.startsWith("\xff\xd8\xff")) return "image/jpeg";
  if (text.startsWith("\x89PNG")) return "image/png";
  if (text.startsWith("RIFF") && text.slice(8, 12) === "WEBP") return "image/webp";
  if (text.startsWith("BM")) return "image/bmp";
  if (text.slice(4, 8) === "ftyp" && text.slice(8, 12).startsWith("avi")) return "image/avif";
  return "application/octet-stream";
}
