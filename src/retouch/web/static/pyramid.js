// A picture in several sizes, so that drawing it small costs what small pictures cost.

const SMALLEST = 600; // longest side below which no smaller level is made [px]

export class Pyramid {
  /** `source`: a canvas of full size; so that two pyramids are scaled alike, it is never a bitmap. */
  constructor(source) {
    this.width = source.width;
    this.height = source.height;
    this.levels = [source];
    while (Math.max(this.top.width, this.top.height) > 2 * SMALLEST) {
      const last = this.top;
      const canvas = new OffscreenCanvas(Math.ceil(last.width / 2), Math.ceil(last.height / 2));
      this.levels.push(canvas);
      halve(last, canvas, { x0: 0, y0: 0, x1: canvas.width, y1: canvas.height });
    }
  }

  get top() {
    return this.levels[this.levels.length - 1];
  }

  copy() {
    return Pyramid.from(this.levels[0]);
  }

  /** From a bitmap or another canvas. */
  static from(source) {
    const canvas = new OffscreenCanvas(source.width, source.height);
    canvas.getContext("2d").drawImage(source, 0, 0);
    source.close?.();
    return new Pyramid(canvas);
  }

  /** Renew a box of all smaller levels after the full size changed there. */
  update(box) {
    let { x0, y0, x1, y1 } = box;
    for (let k = 1; k < this.levels.length; k++) {
      x0 = Math.floor(x0 / 2);
      y0 = Math.floor(y0 / 2);
      x1 = Math.ceil(x1 / 2);
      y1 = Math.ceil(y1 / 2);
      halve(this.levels[k - 1], this.levels[k], { x0, y0, x1, y1 });
    }
  }

  /** Draw with the picture's origin at (x, y) and `zoom` screen pixels per pixel. */
  draw(context, { x, y, zoom, width, height }) {
    let k = 0;
    while (k + 1 < this.levels.length && zoom * 2 ** (k + 1) <= 1.001) k++;
    const source = this.levels[k];
    const scale = zoom * 2 ** k;
    const x0 = Math.max(0, Math.floor(-x / scale));
    const y0 = Math.max(0, Math.floor(-y / scale));
    const x1 = Math.min(source.width, Math.ceil((width - x) / scale));
    const y1 = Math.min(source.height, Math.ceil((height - y) / scale));
    if (x1 <= x0 || y1 <= y0) return;
    context.imageSmoothingEnabled = zoom < 2;
    context.imageSmoothingQuality = "low";
    context.drawImage(
      source, x0, y0, x1 - x0, y1 - y0,
      x + x0 * scale, y + y0 * scale, (x1 - x0) * scale, (y1 - y0) * scale,
    );
  }

  close() {
    for (const level of this.levels) level.width = level.height = 0;
    this.levels = [];
  }
}

function halve(source, target, { x0, y0, x1, y1 }) {
  const context = target.getContext("2d");
  context.globalCompositeOperation = "copy";
  context.save();
  context.beginPath();
  context.rect(x0, y0, x1 - x0, y1 - y0);
  context.clip();
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = "low"; // exact means of 2x2 at this scale
  context.drawImage(source, 2 * x0, 2 * y0, 2 * (x1 - x0), 2 * (y1 - y0), x0, y0, x1 - x0, y1 - y0);
  context.restore();
}
