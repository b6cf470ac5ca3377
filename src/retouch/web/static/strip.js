// The film strip: several pictures, each with its own mask, fills and history; the result of a
// picture from the command line's folder is written as soon as one leaves it.

import { OpenPicture } from "./picture.js";
import { t } from "./strings.js";

const DECODED = 2; // pictures whose large bitmaps stay in memory

export class Strip {
  constructor(app, element) {
    this.app = app;
    this.element = element;
    this.items = []; // {doc, offered, button, used}
    this.clock = 0;
  }

  get hasUnsaved() {
    return this.items.some(({ doc }) => doc && doc.patches.length && doc.done.length !== doc.saved);
  }

  /** Pictures from this machine, by button, drop or paste. */
  async add(files) {
    const items = files.map((file) => {
      const named = file.name ? file : new File([file], `${t("pasted")}.png`);
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
    if (this.items.length) await this.go(this.items[0]);
    if (output) this.app.say("kAutosave", { folder: output });
  }

  async step(by) {
    const index = this.items.indexOf(this.current) + by;
    if (this.items[index]) await this.go(this.items[index]);
  }

  async go(item) {
    const { app } = this;
    if (app.abort) return;
    const left = this.current;
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
    if (this.output && left?.doc && left !== item) await this.#autosave(left.doc);
    if (!(await app.show(item.doc))) return;
    this.current = item;
    item.used = ++this.clock;
    this.#thumbnail(item);
    this.#release();
    this.mark();
  }

  async #autosave(doc) {
    if (!doc.offered || !doc.patches.length || doc.saved === doc.done.length) return;
    await this.app.save();
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
    if (!item.button) return;
    item.button.querySelector("canvas")?.remove();
    item.button.prepend(item.doc.thumbnail());
  }

  #draw() {
    this.element.hidden = this.items.length < 2;
    for (const item of this.items) {
      if (item.button) continue;
      const button = document.createElement("button");
      button.setAttribute("role", "option");
      button.setAttribute("aria-selected", "false");
      const name = document.createElement("span");
      name.textContent = item.name;
      button.append(name);
      button.onclick = () => this.go(item);
      item.button = button;
      this.element.append(button);
    }
  }

  mark() {
    for (const item of this.items) item.button.setAttribute("aria-selected", String(item === this.current));
  }
}
