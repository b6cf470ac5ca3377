// Files that leave the page: the picture, its mask, its label map, the clipboard.

import { maskPng } from "./png.js";

const SUFFIXES = {
  "image/png": ".png", "image/jpeg": ".jpg", "image/tiff": ".tif", "image/webp": ".webp",
  "image/bmp": ".bmp", "image/heic": ".heic", "image/avif": ".avif",
};

export class Saving {
  constructor(app) {
    this.app = app;
  }

  /** The picture in its own format with all its metadata; one of a folder goes beside the folder. */
  async save() {
    const { app } = this;
    const { doc, server } = app;
    if (!doc) return;
    const options = { lossless: document.getElementById("lossless").checked };
    const state = doc.patches;
    await app.work("saving", async () => {
      let name;
      if (doc.offered) name = (await server.saveOffered(doc, state, options)).name;
      else {
        const blob = await server.save(doc, state, options);
        const own = doc.name.slice(doc.name.lastIndexOf("."));
        name = `${stem(doc)}_filled${options.lossless ? SUFFIXES[blob.type] ?? ".png" : own}`;
        download(blob, name);
      }
      doc.saved = state;
      app.say("saved", { name });
    });
  }

  async mask() {
    const { doc } = this.app;
    if (!doc) return;
    const box = { x0: 0, y0: 0, x1: doc.width, y1: doc.height };
    download(await maskPng(doc.mask.read(box), doc.width, doc.height), `${stem(doc)}_mask.png`);
  }

  /** The picture as shown, with the masked part transparent. */
  async masked() {
    const { doc } = this.app;
    if (!doc) return;
    const canvas = shown(doc);
    const context = canvas.getContext("2d");
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
    download(await canvas.convertToBlob(), `${stem(doc)}_masked.png`);
  }

  async labels() {
    const { app } = this;
    if (app.doc?.editing) download(await app.labels.map(), `${stem(app.doc)}_labels.png`);
  }

  async copy() {
    const { app } = this;
    if (!app.doc) return;
    try {
      await navigator.clipboard.write([new ClipboardItem({ "image/png": shown(app.doc).convertToBlob() })]);
      app.say("copied");
    } catch (error) {
      app.fail(error);
    }
  }
}

function shown(doc) {
  const canvas = new OffscreenCanvas(doc.width, doc.height);
  canvas.getContext("2d").drawImage(doc.current.levels[0], 0, 0);
  return canvas;
}

function stem(doc) {
  const dot = doc.name.lastIndexOf(".");
  return dot > 0 ? doc.name.slice(0, dot) : doc.name;
}

function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
