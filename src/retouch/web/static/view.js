// The canvas: zoom, pan, and the three layers (picture, mask or labels, outlines), each drawn only
// where and when something changed.

const LARGEST = 64; // screen pixels per pixel

export class View {
  constructor(stage) {
    this.stage = stage;
    this.layers = ["picture", "overlay", "outline"].map((name) => {
      const canvas = document.createElement("canvas");
      canvas.className = `layer ${name}`;
      canvas.setAttribute("aria-hidden", "true");
      stage.append(canvas);
      return canvas;
    });
    [this.pictureLayer, this.overlayLayer, this.outlineLayer] = this.layers;
    this.doc = null;
    this.zoom = 1;
    this.x = 0;
    this.y = 0;
    this.fitted = true;
    this.compare = { mode: "none", split: 0.5 }; // none, original, slider, difference
    this.overlay = null; // {plane, colors, faint?, stripes?: Uint32Array(256)}
    this.outline = null; // (context, view) => void
    this.stale = new Set();
    this.dirty = null;
    this.listener = null;
    new ResizeObserver(() => this.#resize()).observe(stage);
    this.#resize();
  }

  get scale() {
    return window.devicePixelRatio || 1;
  }

  show(doc) {
    if (this.doc && this.listener) this.doc.removeEventListener("redraw", this.listener);
    this.doc = doc;
    this.listener = () => this.invalidate("picture");
    doc?.addEventListener("redraw", this.listener);
    this.fit();
  }

  #resize() {
    const { clientWidth, clientHeight } = this.stage;
    this.width = Math.max(1, Math.round(clientWidth * this.scale));
    this.height = Math.max(1, Math.round(clientHeight * this.scale));
    for (const canvas of this.layers) {
      canvas.width = this.width;
      canvas.height = this.height;
    }
    if (this.fitted) this.fit();
    else this.invalidate("picture", "overlay", "outline");
  }

  // -- where things are ------------------------------------------------------------------------

  toPicture(clientX, clientY) {
    const { x, y } = this.toScreen(clientX, clientY);
    return { x: (x - this.x) / this.zoom, y: (y - this.y) / this.zoom };
  }

  toScreen(clientX, clientY) {
    const box = this.stage.getBoundingClientRect();
    return { x: (clientX - box.left) * this.scale, y: (clientY - box.top) * this.scale };
  }

  toClient(x, y) {
    const box = this.stage.getBoundingClientRect();
    return {
      x: box.left + (this.x + x * this.zoom) / this.scale,
      y: box.top + (this.y + y * this.zoom) / this.scale,
    };
  }

  fit() {
    this.fitted = true;
    if (!this.doc?.width) return this.invalidate("picture", "overlay", "outline");
    const room = 0.96;
    const { width, height } = this.doc;
    this.zoom = Math.min((this.width * room) / width, (this.height * room) / height, LARGEST);
    this.x = Math.round((this.width - width * this.zoom) / 2);
    this.y = Math.round((this.height - height * this.zoom) / 2);
    this.moved();
    return undefined;
  }

  /** Zoom so that the point under (clientX, clientY) stays there; without a point, the middle. */
  setZoom(zoom, clientX, clientY) {
    if (!this.doc) return;
    const smallest = Math.min(1, 16 / Math.max(this.doc.width, this.doc.height));
    zoom = Math.min(LARGEST, Math.max(smallest, zoom));
    const at = clientX === undefined ? { x: this.width / 2, y: this.height / 2 } : this.toScreen(clientX, clientY);
    this.x = at.x - ((at.x - this.x) * zoom) / this.zoom;
    this.y = at.y - ((at.y - this.y) * zoom) / this.zoom;
    this.zoom = zoom;
    this.fitted = false;
    this.moved();
  }

  panBy(dx, dy) {
    this.x += dx * this.scale;
    this.y += dy * this.scale;
    this.fitted = false;
    this.moved();
  }

  moved() {
    this.invalidate("picture", "overlay", "outline");
    this.stage.dispatchEvent(new Event("view"));
  }

  /** The picture's corner for drawing: on a whole screen pixel when pixels are visible. */
  get origin() {
    return this.zoom < 1 ? { x: this.x, y: this.y } : { x: Math.round(this.x), y: Math.round(this.y) };
  }

  // -- drawing ---------------------------------------------------------------------------------

  invalidate(...layers) {
    for (const layer of layers) this.stale.add(layer);
    this.#soon();
  }

  /** The overlay's plane changed: draw the changed box only. */
  refresh() {
    const dirty = this.overlay?.plane.takeDirty();
    if (!dirty) return;
    const d = this.dirty;
    this.dirty = d
      ? { x0: Math.min(d.x0, dirty.x0), y0: Math.min(d.y0, dirty.y0), x1: Math.max(d.x1, dirty.x1), y1: Math.max(d.y1, dirty.y1) }
      : dirty;
    this.#soon();
  }

  #soon() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      const { stale } = this;
      this.stale = new Set();
      if (stale.has("picture")) this.#drawPicture();
      if (stale.has("overlay")) this.#drawOverlay(0, 0, this.width, this.height);
      else if (this.dirty) this.#drawDirty();
      if (stale.has("outline")) this.#drawOutline();
      this.dirty = null;
    });
  }

  #drawPicture() {
    const context = this.pictureLayer.getContext("2d", { alpha: true });
    const { width, height, doc, zoom } = this;
    const { x, y } = this.origin;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    if (!doc?.current) return;
    const place = { x, y, zoom, width, height };
    const { mode, split } = this.compare;
    if (mode === "original") doc.original.draw(context, place);
    else doc.current.draw(context, place);
    if (mode === "slider") this.#clipped(context, 0, split * width, () => doc.original.draw(context, place));
    if (mode === "difference") this.#difference(context, place);
  }

  #clipped(context, from, to, draw) {
    context.save();
    context.beginPath();
    context.rect(from, 0, to - from, this.height);
    context.clip();
    draw();
    context.restore();
    context.fillStyle = "#fff";
    context.fillRect(to - 1, 0, 2, this.height);
    context.fillStyle = "#000";
    context.fillRect(to + 1, 0, 1, this.height);
  }

  /** |after - before|, four times brighter; both are scaled by themselves, so what is alike is black. */
  #difference(context, place) {
    const before = new OffscreenCanvas(this.width, this.height);
    this.doc.original.draw(before.getContext("2d"), place);
    context.globalCompositeOperation = "difference";
    context.drawImage(before, 0, 0);
    context.globalCompositeOperation = "lighter";
    for (let i = 0; i < 2; i++) context.drawImage(this.pictureLayer, 0, 0);
    context.globalCompositeOperation = "source-over";
  }

  #drawDirty() {
    const { x0, y0, x1, y1 } = this.dirty;
    const left = Math.max(0, Math.floor(this.x + x0 * this.zoom) - 1);
    const top = Math.max(0, Math.floor(this.y + y0 * this.zoom) - 1);
    const right = Math.min(this.width, Math.ceil(this.x + x1 * this.zoom) + 1);
    const bottom = Math.min(this.height, Math.ceil(this.y + y1 * this.zoom) + 1);
    if (right > left && bottom > top) this.#drawOverlay(left, top, right - left, bottom - top);
  }

  #drawOverlay(left, top, width, height) {
    const context = this.overlayLayer.getContext("2d");
    if (!this.overlay || this.compare.mode === "difference" || this.compare.mode === "original") {
      context.clearRect(left, top, width, height);
      return;
    }
    const { plane, ...tables } = this.overlay;
    const image = context.createImageData(width, height);
    const { zoom } = this;
    const { x, y } = this.origin;
    const out = new Uint32Array(image.data.buffer);
    plane.sample(out, width, height, { left, top, x, y, zoom, ...tables });
    context.putImageData(image, left, top);
  }

  #drawOutline() {
    const context = this.outlineLayer.getContext("2d");
    context.clearRect(0, 0, this.width, this.height);
    this.outline?.(context, this);
  }
}

/** Colours for an overlay as the canvas wants them: little-endian RGBA. */
export function colorTable(entries) {
  const table = new Uint32Array(256);
  const bytes = new Uint8Array(table.buffer);
  for (const [index, [r, g, b, a]] of entries) bytes.set([r, g, b, a], 4 * index);
  return table;
}
