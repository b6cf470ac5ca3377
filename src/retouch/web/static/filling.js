// Fills: the whole mask, each stroke at once, and the same hole by several networks side by side.

import { subtract } from "./shapes.js";
import { t } from "./strings.js";

const $ = (id) => document.getElementById(id);
const SHOWN = 480; // longest side of a variant's picture [px]
const AROUND = 0.35; // what is shown round the hole, as a share of its size

export class Filling {
  constructor(app) {
    this.app = app;
    $("variantsSheet").addEventListener("close", () => this.#closed());
  }

  options() {
    const dilate = Number($("dilate").value) || 0;
    const feather = Number($("feather").value) || 0;
    const network = $("network").value || null;
    return network ? { network, dilate, feather } : { dilate, feather };
  }

  /** A soft edge fades within the widened part: what is set last moves the other. */
  keepWithin(changed) {
    const dilate = Number($("dilate").value) || 0;
    const feather = Number($("feather").value) || 0;
    if (feather <= dilate) return;
    if (changed === "feather") $("dilate").value = feather;
    else $("feather").value = dilate;
  }

  async fill() {
    const { app } = this;
    const { doc, server } = app;
    if (!doc || app.abort) return;
    if (doc.editing) {
      app.labels.end();
      return;
    }
    const mask = await doc.maskPart();
    if (!mask) {
      app.say("emptyMask");
      return;
    }
    const asked = doc.mask.copy();
    const started = performance.now();
    const options = this.options();
    await app.work("filling", async (handlers) => {
      const patch = await server.fill(doc, doc.patches, mask, options, handlers);
      await doc.addFill(patch, { clear: (now) => subtract(now, asked), label: options.network ?? "" });
      app.say("filled", { seconds: (performance.now() - started) / 1000 });
      app.strip.filled(doc);
    });
    if ($("auto").checked && doc === app.doc && !doc.mask.isOpen && !doc.mask.isEmpty) await this.fill();
  }

  /** Fill the same hole with every network that is at hand; one of them is taken, or none. */
  async variants() {
    const { app } = this;
    const { doc } = app;
    if (!doc || app.abort || doc.editing) return;
    const mask = await doc.maskPart();
    if (!mask) {
      app.say("emptyMask");
      return;
    }
    if (app.models.length < 2) {
      app.say("oneVariant");
      return;
    }
    const asked = doc.mask.copy();
    const cards = app.models.map((model) => card(model.name));
    $("variantsList").replaceChildren(...cards);
    $("variantsSheet").showModal();
    await app.work("filling", async (handlers) => {
      for (const [index, { name }] of app.models.entries()) {
        if (!$("variantsSheet").open) return;
        await this.#variant(cards[index], doc, mask, { ...this.options(), network: name }, handlers, asked);
      }
      if ($("variantsSheet").open) app.say("variantsDone");
    });
  }

  async #variant(button, doc, mask, options, handlers, asked) {
    const { app } = this;
    const started = performance.now();
    try {
      const patch = await app.server.fill(doc, doc.patches, mask, options, handlers);
      patch.bitmap = await createImageBitmap(patch.blob);
      button.prepend(preview(doc, patch));
      button.lastChild.textContent = t("took", { seconds: (performance.now() - started) / 1000 });
      button.disabled = false;
      button.onclick = async () => {
        $("variantsSheet").close();
        await doc.addFill(patch, { clear: (now) => subtract(now, asked), label: options.network });
        app.strip.filled(doc);
      };
    } catch (error) {
      if (handlers.signal.aborted) throw error;
      button.lastChild.textContent = t("failed", { reason: error.message });
    }
  }

  #closed() {
    this.app.abort?.abort();
    this.app.stage.focus({ preventScroll: true });
  }
}

function card(name) {
  const button = document.createElement("button");
  const title = document.createElement("strong");
  const note = document.createElement("span");
  title.textContent = name;
  note.textContent = t("waits");
  button.append(title, note);
  button.disabled = true;
  return button;
}

/** The hole with some of what is round it, filled. */
function preview(doc, patch) {
  const { left, top, bitmap } = patch;
  const more = Math.round(AROUND * Math.max(bitmap.width, bitmap.height)) + 8;
  const x = Math.max(0, left - more);
  const y = Math.max(0, top - more);
  const width = Math.min(doc.width, left + bitmap.width + more) - x;
  const height = Math.min(doc.height, top + bitmap.height + more) - y;
  const scale = Math.min(1, SHOWN / Math.max(width, height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  context.drawImage(doc.current.levels[0], x, y, width, height, 0, 0, width, height);
  context.drawImage(bitmap, left - x, top - y);
  return canvas;
}
