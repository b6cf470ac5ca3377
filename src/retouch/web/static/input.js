// Mouse, pen, touch and the keyboard's cursor become strokes, pans and zooms.

export const LARGEST_BRUSH = 2000; // [px of the picture]

export class Input {
  /** `app`: view, doc, tool, brush (diameter in picture pixels), setBrush(d). */
  constructor(app, stage) {
    this.app = app;
    this.stage = stage;
    this.pointers = new Map();
    this.drawing = null; // id of the pointer that draws
    this.panning = null;
    this.pinch = null;
    this.space = false;
    this.keyPoint = null; // the keyboard's cursor, in picture coordinates
    this.keyDown = false;
    this.cursor = document.createElement("div");
    this.cursor.className = "cursor";
    this.cursor.hidden = true;
    stage.append(this.cursor);
    stage.addEventListener("pointerdown", (event) => this.#down(event));
    stage.addEventListener("pointermove", (event) => this.#move(event));
    for (const kind of ["pointerup", "pointercancel"]) stage.addEventListener(kind, (event) => this.#up(event));
    stage.addEventListener("pointerleave", () => (this.cursor.hidden = !this.keyPoint));
    stage.addEventListener("contextmenu", (event) => event.preventDefault());
    stage.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    stage.addEventListener("view", () => this.#placeCursor());
    stage.addEventListener("blur", () => this.hideKeyCursor());
  }

  #point(event) {
    const { x, y } = this.app.view.toPicture(event.clientX, event.clientY);
    const pressure = event.pointerType === "pen" && event.pressure > 0 ? 0.2 + 0.8 * event.pressure : 1;
    const erase = this.app.takesAway || event.altKey || (event.buttons & 2) !== 0 || (event.buttons & 32) !== 0;
    return { x, y, r: (this.app.brush / 2) * pressure, erase };
  }

  #down(event) {
    const { app } = this;
    if (!app.doc || event.target.closest("input, button")) return;
    this.stage.focus({ preventScroll: true });
    event.preventDefault();
    this.hideKeyCursor();
    this.stage.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, event);
    if (this.pointers.size === 2 && event.pointerType === "touch") {
      app.tool.cancel();
      this.drawing = this.panning = null;
      this.pinch = this.#fingers();
      return;
    }
    if (this.pointers.size > 1) return;
    if (event.button === 1 || this.space || app.tool.pans) {
      this.panning = event;
      this.stage.classList.add("panning");
    } else if (event.button === 0 || event.button === 2 || event.button === 5) {
      this.drawing = event.pointerId;
      app.tool.down(this.#point(event));
    }
  }

  #move(event) {
    const { app } = this;
    this.last = event;
    this.#placeCursor();
    if (this.pointers.has(event.pointerId)) this.pointers.set(event.pointerId, event);
    if (this.pinch && this.pointers.size === 2) {
      const now = this.#fingers();
      app.view.panBy(now.x - this.pinch.x, now.y - this.pinch.y);
      if (this.pinch.apart > 0) app.view.setZoom((app.view.zoom * now.apart) / this.pinch.apart, now.x, now.y);
      this.pinch = now;
    } else if (this.panning) {
      app.view.panBy(event.clientX - this.panning.clientX, event.clientY - this.panning.clientY);
      this.panning = event;
    } else if (this.drawing === event.pointerId) {
      const events = event.getCoalescedEvents?.() ?? [];
      for (const each of events.length ? events : [event]) app.tool.move(this.#point(each));
    } else if (app.tool?.hovers && app.doc) app.tool.move(this.#point(event));
  }

  #up(event) {
    this.pointers.delete(event.pointerId);
    if (this.pointers.size < 2) this.pinch = null;
    if (this.panning && this.pointers.size === 0) {
      this.panning = null;
      this.stage.classList.remove("panning");
    }
    if (this.drawing !== event.pointerId) return;
    this.drawing = null;
    if (event.type === "pointercancel") this.app.tool.cancel();
    else this.app.tool.up();
  }

  #fingers() {
    const [a, b] = [...this.pointers.values()];
    return {
      x: (a.clientX + b.clientX) / 2,
      y: (a.clientY + b.clientY) / 2,
      apart: Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY),
    };
  }

  #wheel(event) {
    const { app } = this;
    if (!app.doc) return;
    event.preventDefault();
    const step = (event.deltaY || event.deltaX) * (event.deltaMode === 1 ? 20 : 1);
    if (event.shiftKey) app.setBrush(app.brush * Math.exp(-step * 0.002));
    else app.view.setZoom(app.view.zoom * Math.exp(-step * (event.ctrlKey ? 0.01 : 0.0015)), event.clientX, event.clientY);
  }

  // -- the circle under the pointer ------------------------------------------------------------

  #placeCursor() {
    const { view, doc, brush, tool } = this.app;
    const at = this.keyPoint ? view.toClient(this.keyPoint.x, this.keyPoint.y) : this.last && { x: this.last.clientX, y: this.last.clientY };
    const touches = !this.keyPoint && this.last?.pointerType === "touch";
    if (!doc || !at || touches) {
      this.cursor.hidden = true;
      return;
    }
    const side = tool.sized ? Math.max(2, (brush * view.zoom) / view.scale) : 12;
    const box = this.stage.getBoundingClientRect();
    this.cursor.hidden = !tool.sized && !this.keyPoint;
    this.cursor.classList.toggle("down", this.keyDown);
    this.cursor.style.width = this.cursor.style.height = `${side}px`;
    this.cursor.style.transform = `translate(${at.x - box.left - side / 2}px, ${at.y - box.top - side / 2}px)`;
  }

  refresh() {
    this.#placeCursor();
  }

  // -- the keyboard's cursor -------------------------------------------------------------------

  /** Move the keyboard's cursor by screen pixels. */
  moveKey(dx, dy) {
    const { app } = this;
    const { view, doc } = app;
    if (!doc) return;
    this.keyPoint ??= { x: (view.width / 2 - view.x) / view.zoom, y: (view.height / 2 - view.y) / view.zoom };
    const step = view.scale / view.zoom;
    this.keyPoint.x = Math.min(doc.width - 0.5, Math.max(0.5, this.keyPoint.x + dx * step));
    this.keyPoint.y = Math.min(doc.height - 0.5, Math.max(0.5, this.keyPoint.y + dy * step));
    if (this.keyDown || app.tool.hovers) app.tool.move(this.#keyed());
    this.#placeCursor();
  }

  /** Put the tool down, or lift it. */
  pressKey(erase) {
    const { app } = this;
    if (!app.doc) return;
    if (!this.keyPoint) this.moveKey(0, 0);
    const drags = app.tool.sized || app.tool === app.tools.rectangle || app.tool === app.tools.lasso;
    if (this.keyDown) {
      this.keyDown = false;
      app.tool.up();
    } else {
      app.tool.down({ ...this.#keyed(), erase: erase || app.takesAway });
      if (drags) this.keyDown = true;
    }
    this.#placeCursor();
  }

  #keyed() {
    return { ...this.keyPoint, r: this.app.brush / 2, erase: this.app.takesAway };
  }

  hideKeyCursor() {
    if (this.keyDown) this.app.tool.up();
    this.keyDown = false;
    this.keyPoint = null;
    this.#placeCursor();
  }
}
