// Shapes painted into a plane as rows of pixels; a pixel belongs to a shape if its middle does.

/** A stroke's piece: the hull of two discs, pixel centres at +0.5. */
export function capsule(plane, a, b, value) {
  const ra = Math.max(a.r, 0.5);
  const rb = Math.max(b.r, 0.5);
  const dx = b.x - a.x;
  const dy = b.y - a.y;
  const length = Math.hypot(dx, dy);
  const quad = [];
  if (length > 0) {
    const nx = -dy / length;
    const ny = dx / length;
    quad.push([a.x + nx * ra, a.y + ny * ra], [b.x + nx * rb, b.y + ny * rb]);
    quad.push([b.x - nx * rb, b.y - ny * rb], [a.x - nx * ra, a.y - ny * ra]);
  }
  const y0 = Math.max(0, Math.floor(Math.min(a.y - ra, b.y - rb)));
  const y1 = Math.min(plane.height, Math.ceil(Math.max(a.y + ra, b.y + rb)));
  for (let y = y0; y < y1; y++) {
    const middle = y + 0.5;
    let low = Infinity;
    let high = -Infinity;
    for (const [c, r] of [[a, ra], [b, rb]]) {
      const d = middle - c.y;
      if (Math.abs(d) > r) continue;
      const half = Math.sqrt(r * r - d * d);
      low = Math.min(low, c.x - half);
      high = Math.max(high, c.x + half);
    }
    for (const x of crossings(quad, middle)) {
      low = Math.min(low, x);
      high = Math.max(high, x);
    }
    if (low <= high) plane.span(y, Math.ceil(low - 0.5), Math.floor(high - 0.5) + 1, value);
  }
}

/** Where the sides of a polygon cross a height, sorted. */
function crossings(points, height) {
  const found = [];
  for (let i = 0; i < points.length; i++) {
    const [x0, y0] = points[i];
    const [x1, y1] = points[(i + 1) % points.length];
    if ((y0 <= height) !== (y1 <= height)) found.push(x0 + ((height - y0) / (y1 - y0)) * (x1 - x0));
  }
  return found.sort((p, q) => p - q);
}

/** A filled polygon, even-odd. */
export function polygon(plane, points, value) {
  const heights = points.map((p) => p[1]);
  const y0 = Math.max(0, Math.floor(Math.min(...extremes(heights))));
  const y1 = Math.min(plane.height, Math.ceil(Math.max(...extremes(heights))));
  for (let y = y0; y < y1; y++) {
    const found = crossings(points, y + 0.5);
    for (let i = 0; i + 1 < found.length; i += 2) {
      plane.span(y, Math.ceil(found[i] - 0.5), Math.ceil(found[i + 1] - 0.5), value);
    }
  }
}

function extremes(values) {
  let low = Infinity;
  let high = -Infinity;
  for (const v of values) {
    low = Math.min(low, v);
    high = Math.max(high, v);
  }
  return [low, high];
}

/** A rectangle between two corners, whole pixels. */
export function rectangle(plane, a, b, value) {
  const x0 = Math.floor(Math.min(a.x, b.x));
  const x1 = Math.floor(Math.max(a.x, b.x)) + 1;
  const y1 = Math.min(plane.height, Math.floor(Math.max(a.y, b.y)) + 1);
  for (let y = Math.max(0, Math.floor(Math.min(a.y, b.y))); y < y1; y++) plane.span(y, x0, x1, value);
}

/** Grow (radius > 0) or shrink a mask by a disc; beyond the picture nothing shrinks it. */
export function grow(plane, radius) {
  const found = plane.bounds();
  if (!found || radius === 0) return;
  const r = Math.abs(radius);
  const box = {
    x0: Math.max(0, found.x0 - r), y0: Math.max(0, found.y0 - r),
    x1: Math.min(plane.width, found.x1 + r), y1: Math.min(plane.height, found.y1 + r),
  };
  const width = box.x1 - box.x0;
  const height = box.y1 - box.y0;
  const values = plane.read(box);
  const source = radius > 0 ? 1 : 0;
  const near = columnDistances(values, width, height, source, r);
  if (radius < 0) edges(near, box, plane, width, height);
  const half = new Int32Array(r + 1);
  for (let d = 0; d <= r; d++) half[d] = Math.floor(Math.sqrt(r * r - d * d));
  const depth = new Int32Array(width + 1);
  for (let y = 0; y < height; y++) {
    depth.fill(0);
    const row = y * width;
    for (let x = 0; x < width; x++) {
      const d = near[row + x];
      if (d > r) continue;
      depth[Math.max(0, x - half[d])]++;
      depth[Math.min(width, x + half[d] + 1)]--;
    }
    for (let x = 0, inside = 0; x < width; x++) {
      inside += depth[x];
      if (inside > 0) values[row + x] = source;
    }
  }
  plane.write(box, values);
}

/** Distance to the next `source` in the same column, at most r + 1. */
function columnDistances(values, width, height, source, r) {
  const near = new Uint16Array(width * height);
  for (let x = 0; x < width; x++) {
    let d = r + 1;
    for (let y = 0; y < height; y++) {
      d = values[y * width + x] === source ? 0 : Math.min(d + 1, r + 1);
      near[y * width + x] = d;
    }
    d = r + 1;
    for (let y = height - 1; y >= 0; y--) {
      d = near[y * width + x] === 0 ? 0 : Math.min(d + 1, r + 1);
      if (d < near[y * width + x]) near[y * width + x] = d;
    }
  }
  return near;
}

/** When shrinking, the rim of the box is unmasked unless it is the picture's own. */
function edges(near, box, plane, width, height) {
  for (let y = 0; y < height; y++) {
    if (box.x0 > 0) near[y * width] = 0;
    if (box.x1 < plane.width) near[y * width + width - 1] = 0;
  }
}

export function invert(plane) {
  for (let y = 0; y < plane.height; y++) {
    const values = plane.read({ x0: 0, y0: y, x1: plane.width, y1: y + 1 });
    for (let x = 0; x < values.length; x++) values[x] = 1 - values[x];
    plane.write({ x0: 0, y0: y, x1: plane.width, y1: y + 1 }, values);
  }
}

export function clear(plane) {
  const box = plane.bounds();
  if (!box) return;
  for (let y = box.y0; y < box.y1; y++) plane.span(y, box.x0, box.x1, plane.empty);
}

/** Unmask what another mask, which is not empty, holds: what was painted since stays. */
export function subtract(plane, other) {
  const box = other.bounds();
  const values = plane.read(box);
  const gone = other.read(box);
  for (let i = 0; i < values.length; i++) if (gone[i]) values[i] = plane.empty;
  plane.write(box, values);
}

/** Paint the connected area of one value, within the plane's limit. */
export function flood(plane, x, y, value) {
  const old = plane.get(x, y);
  const limit = plane.limit;
  const open = (px, py) =>
    px >= 0 && py >= 0 && px < plane.width && py < plane.height &&
    plane.get(px, py) === old && (!limit || limit.get(px, py) !== limit.empty);
  if (old === value || !open(x, y)) return;
  const waiting = [[x, y]];
  while (waiting.length) {
    const [px, py] = waiting.pop();
    if (!open(px, py)) continue;
    let x0 = px;
    let x1 = px + 1;
    while (open(x0 - 1, py)) x0--;
    while (open(x1, py)) x1++;
    plane.span(py, x0, x1, value);
    for (const row of [py - 1, py + 1]) {
      for (let i = x0, inside = false; i < x1; i++) {
        const here = open(i, row);
        if (here && !inside) waiting.push([i, row]);
        inside = here;
      }
    }
  }
}
