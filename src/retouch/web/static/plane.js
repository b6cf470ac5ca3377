// A large plane of small numbers (mask: 0 or 1; label map: a class, 255 = nothing said), kept in
// tiles. A tile is never changed once it is part of a change, so undoing swaps references.

export const SIDE = 256;
const STRIPE = 4; // width of the overlay's stripes [screen px]; a power of 2

export class Plane {
  constructor(width, height, empty = 0) {
    this.width = width;
    this.height = height;
    this.empty = empty;
    this.columns = Math.ceil(width / SIDE);
    this.tiles = new Map(); // index -> Uint8Array(SIDE * SIDE); missing = all empty
    this.limit = null; // another plane: only where it is not empty may be painted
    this.before = null; // index -> tile, while an edit is open
    this.dirty = null; // {x0, y0, x1, y1} of what changed since takeDirty()
  }

  begin() {
    this.before = new Map();
  }

  get isOpen() {
    return this.before !== null;
  }

  /** End an edit; returns what to keep for undo, or null if nothing changed. */
  commit() {
    const before = this.before;
    this.before = null;
    if (!before || before.size === 0) return null;
    const after = new Map();
    for (const index of before.keys()) after.set(index, this.tiles.get(index));
    return { before, after };
  }

  /** Swap tiles: `tiles` is one side of a change. */
  apply(tiles) {
    for (const [index, tile] of tiles) {
      if (tile) this.tiles.set(index, tile);
      else this.tiles.delete(index);
      const x = (index % this.columns) * SIDE;
      const y = Math.floor(index / this.columns) * SIDE;
      this.touch(x, y, x + SIDE, y + SIDE);
    }
  }

  touch(x0, y0, x1, y1) {
    const d = this.dirty;
    this.dirty = d
      ? { x0: Math.min(d.x0, x0), y0: Math.min(d.y0, y0), x1: Math.max(d.x1, x1), y1: Math.max(d.y1, y1) }
      : { x0, y0, x1, y1 };
  }

  takeDirty() {
    const dirty = this.dirty;
    this.dirty = null;
    return dirty;
  }

  get(x, y) {
    if (x < 0 || y < 0 || x >= this.width || y >= this.height) return this.empty;
    const tile = this.tiles.get(Math.floor(y / SIDE) * this.columns + Math.floor(x / SIDE));
    return tile ? tile[(y % SIDE) * SIDE + (x % SIDE)] : this.empty;
  }

  get isEmpty() {
    for (const tile of this.tiles.values()) if (tile.some((v) => v !== this.empty)) return false;
    return true;
  }

  writable(index) {
    let tile = this.tiles.get(index);
    if (this.before && this.before.has(index)) return tile;
    if (this.before) this.before.set(index, tile);
    tile = tile ? tile.slice() : new Uint8Array(SIDE * SIDE).fill(this.empty);
    this.tiles.set(index, tile);
    return tile;
  }

  /** Set pixels x0 <= x < x1 of row y. */
  span(y, x0, x1, value) {
    if (y < 0 || y >= this.height) return;
    x0 = Math.max(0, x0);
    x1 = Math.min(this.width, x1);
    if (x0 >= x1) return;
    this.touch(x0, y, x1, y + 1);
    const row = Math.floor(y / SIDE) * this.columns;
    const offset = (y % SIDE) * SIDE;
    for (let column = Math.floor(x0 / SIDE); column * SIDE < x1; column++) {
      const index = row + column;
      if (!this.tiles.has(index) && value === this.empty) continue;
      const left = column * SIDE;
      const from = Math.max(x0, left) - left;
      const to = Math.min(x1, left + SIDE) - left;
      const limit = this.limit;
      if (!limit) {
        this.writable(index).fill(value, offset + from, offset + to);
        continue;
      }
      const allowed = limit.tiles.get(index);
      if (!allowed) continue;
      const tile = this.writable(index);
      for (let i = offset + from; i < offset + to; i++) if (allowed[i] !== limit.empty) tile[i] = value;
    }
  }

  /** Smallest box round all that is not empty, or null. */
  bounds() {
    let box = null;
    for (const [index, tile] of this.tiles) {
      const left = (index % this.columns) * SIDE;
      const top = Math.floor(index / this.columns) * SIDE;
      if (box && left >= box.x0 && top >= box.y0 && left + SIDE <= box.x1 && top + SIDE <= box.y1) continue;
      for (let y = 0; y < SIDE; y++) {
        let first = -1;
        let last = -1;
        for (let x = 0, i = y * SIDE; x < SIDE; x++, i++) {
          if (tile[i] !== this.empty) {
            if (first < 0) first = x;
            last = x;
          }
        }
        if (first < 0) continue;
        const found = { x0: left + first, y0: top + y, x1: left + last + 1, y1: top + y + 1 };
        box = box
          ? {
              x0: Math.min(box.x0, found.x0), y0: Math.min(box.y0, found.y0),
              x1: Math.max(box.x1, found.x1), y1: Math.max(box.y1, found.y1),
            }
          : found;
      }
    }
    return box;
  }

  /** Copy a box into one array. */
  read({ x0, y0, x1, y1 }) {
    const width = x1 - x0;
    const out = new Uint8Array(width * (y1 - y0)).fill(this.empty);
    for (let y = y0; y < y1; y++) {
      const row = Math.floor(y / SIDE) * this.columns;
      for (let x = x0; x < x1; ) {
        const column = Math.floor(x / SIDE);
        const to = Math.min(x1, (column + 1) * SIDE);
        const tile = this.tiles.get(row + column);
        const from = (y % SIDE) * SIDE + (x - column * SIDE);
        if (tile) out.set(tile.subarray(from, from + to - x), (y - y0) * width + (x - x0));
        x = to;
      }
    }
    return out;
  }

  /** Set a box from one array (inside an edit); pixels outside `limit` stay. */
  write({ x0, y0, x1, y1 }, values) {
    const width = x1 - x0;
    for (let y = y0; y < y1; y++) {
      let start = 0;
      const row = (y - y0) * width;
      for (let x = 1; x <= width; x++) {
        if (x === width || values[row + x] !== values[row + start]) {
          this.span(y, x0 + start, x0 + x, values[row + start]);
          start = x;
        }
      }
    }
  }

  /** A copy; only between edits. */
  copy() {
    const other = new Plane(this.width, this.height, this.empty);
    other.tiles = new Map(this.tiles); // tiles are replaced, not changed
    return other;
  }

  /**
   * Colour a piece of the screen: pixel (i, j) of `out` (Uint32, width wide) shows the plane at
   * ((left + i - x) / zoom, (top + j - y) / zoom); `faint` colours what the limit keeps,
   * `stripes` every other of the diagonal stripes that can be seen on any picture.
   */
  sample(out, width, height, { left, top, x, y, zoom, colors, faint = colors, stripes = colors }) {
    const { limit } = this;
    const columnTile = new Int32Array(width);
    const columnPlace = new Int32Array(width);
    for (let i = 0; i < width; i++) {
      const px = Math.floor((left + i + 0.5 - x) / zoom);
      columnTile[i] = px < 0 || px >= this.width ? -1 : Math.floor(px / SIDE);
      columnPlace[i] = px & (SIDE - 1);
    }
    for (let j = 0; j < height; j++) {
      const py = Math.floor((top + j + 0.5 - y) / zoom);
      if (py < 0 || py >= this.height) continue;
      const row = Math.floor(py / SIDE) * this.columns;
      const offset = (py & (SIDE - 1)) * SIDE;
      let current = -1;
      let tile;
      let allowed;
      for (let i = 0, o = j * width; i < width; i++, o++) {
        const column = columnTile[i];
        if (column < 0) continue;
        if (column !== current) {
          current = column;
          tile = this.tiles.get(row + column);
          allowed = limit ? limit.tiles.get(row + column) : tile;
        }
        if (!tile) continue;
        const place = offset + columnPlace[i];
        const open = !limit || (allowed && allowed[place] !== limit.empty);
        const shown = (left + i + top + j) & STRIPE ? colors : stripes;
        out[o] = (open ? shown : faint)[tile[place]];
      }
    }
  }
}
