// The film strip: several pictures, each with its own mask, fills and history; the result of a
// picture from the command line's folder is written as soon as one leaves it.

import { OpenPicture } from "./picture.js";
import { t } from "./strings.js";

const DECODED = 2; // pictures whose large bitmaps stay in memory
const HEIGHT = 96; // of the strip's pictures [px]

export class Strip {
  constructor(app, element) {
    this.app = app;
    this.element = element;
    this.film = document.getElementById("film");
    this.items = []; // {doc, offered, name, button, used, file}
    this.clock = 0;
    this.waiting = []; // items that are seen and have no picture yet
    this.seen = new IntersectionObserver((entries) => this.#see(entries), { root: element });
  }

  get hasUnsaved() {
    return this.items.some(({ doc }) => doc?.isUnsaved);
  }

  /** Pictures from this machine, by button, drop or paste. */
  async add(files) {
    const items = files.map((file) => {
      const named = file.name ? file : new File([file], `${t("pasted")}.png`, { type: file.type });
      return { doc: this.#open(named), name: named.name };
    });
    this.items.push(...items);
    this.#draw();
    await this.go(items[0]);
  }

  #open(file) {
    const doc = new OpenPicture(file, this.app.server);
    doc.addEventListener("refused", (event) => this.app.fail(event.detail));
    return doc;
  }

  /** Pictures named on the command line. */
  async offer({ pictures, output }) {
    this.output = output;
    this.items.push(...pictures.map((offered) => ({ offered, name: offered.name, doc: null })));
    this.#draw();
    const first = this.items.find(({ offered }) => offered);
    if (first && !this.current && !this.app.doc) await this.go(first);
    if (output) this.app.say("kAutosave", { folder: output });
  }

  async step(by) {
    const index = this.items.indexOf(this.current) + by;
    if (this.items[index]) await this.go(this.items[index]);
  }

  async go(item) {
    const { app } = this;
    if (app.abort) {
      app.say("busy");
      return;
    }
    try {
      if (!item.doc) {
        const file = await app.server.persist(() => app.server.offeredFile(item.offered));
        item.doc = this.#open(file);
        item.doc.offered = item.offered;
      }
    } catch (error) {
      app.fail(error);
      return;
    }
    if (this.current !== item) await this.autosave();
    if (!(await app.show(item.doc))) return;
    this.current = item;
    item.used = ++this.clock;
    this.#thumbnail(item);
    this.#release();
    this.mark();
    item.button.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  /** Write the result of the picture that shows, if it is one of the command line's folder. */
  async autosave() {
    const doc = this.current?.doc;
    if (this.output && doc?.offered && doc.isUnsaved && doc === this.app.doc) await this.app.saving.save();
  }

  filled(doc) {
    const item = this.items.find((each) => each.doc === doc);
    if (item) this.#thumbnail(item);
  }

  #release() {
    const open = this.items.filter(({ doc }) => doc?.original).sort((a, b) => b.used - a.used);
    for (const { doc } of open.slice(DECODED)) doc.unload();
  }

  #thumbnail(item) {
    if (item.doc.current) this.#put(item, item.doc.thumbnail());
  }

  #put(item, canvas) {
    item.button.querySelector("canvas")?.remove();
    item.button.prepend(canvas);
    item.pictured = true;
  }

  // -- pictures of what was not opened yet, one at a time, when they come into sight -----------

  #see(entries) {
    const idle = this.waiting.length === 0;
    for (const { isIntersecting, target } of entries) {
      const item = this.items.find(({ button }) => button === target);
      if (isIntersecting && item && !item.pictured) this.waiting.push(item);
    }
    if (idle) this.#preview();
  }

  async #preview() {
    for (; this.waiting.length; this.waiting.shift()) {
      const [item] = this.waiting;
      if (item.pictured) continue;
      item.pictured = true; // tried once: the browser may not know this kind of file
      try {
        const file = item.doc?.file ?? (await this.app.server.offeredFile(item.offered));
        const bitmap = await createImageBitmap(file, { resizeHeight: HEIGHT, resizeQuality: "medium" });
        const canvas = document.createElement("canvas");
        canvas.width = bitmap.width;
        canvas.height = bitmap.height;
        canvas.getContext("2d").drawImage(bitmap, 0, 0);
        bitmap.close();
        if (!item.button.querySelector("canvas")) this.#put(item, canvas);
      } catch {
        // its name is enough
      }
    }
  }

  #draw() {
    this.film.hidden = this.items.length < 2;
    for (const item of this.items) {
      if (item.button) continue;
      const button = document.createElement("button");
      button.setAttribute("role", "option");
      button.setAttribute("aria-selected", "false");
      button.title = item.name;
      const name = document.createElement("span");
      name.textContent = item.name;
      button.append(name);
      button.onclick = () => this.go(item);
      item.button = button;
      this.element.append(button);
      this.seen.observe(button);
    }
  }

  mark() {
    const place = this.items.indexOf(this.current);
    for (const [index, { button, doc }] of this.items.entries()) {
      button.setAttribute("aria-selected", String(index === place));
      button.classList.toggle("unsaved", Boolean(doc?.isUnsaved));
    }
    document.getElementById("previous").disabled = place <= 0;
    document.getElementById("next").disabled = place < 0 || place === this.items.length - 1;
  }
}
