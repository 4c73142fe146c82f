// A label map over the slide: tiles of class indices from the server, coloured here, so that switching classes, fading
// and outlines need no new tiles, and the class under the cursor is known exactly.

import { address } from "./dom.js";
import { borderPaths, borderPixels } from "./outlines.js";

const TILE = 512;
const KEPT = 160; // tiles in memory: 0.25 MB each, and 1 MB more once painted
const PARALLEL = 4; // requests at a time, so that the slide's own tiles have their turn
const THICK = 1; // screen px of a label px from which on outlines are drawn as lines

export class LabelLayer {
  /** `redraw` is called when a tile has come, `complain` with what the server says of one that did not. */
  constructor(entry, setName, layer, redraw, complain) {
    Object.assign(this, { entry, setName, layer, redraw, complain });
    this.levels = 1 + Math.max(0, Math.ceil(Math.log2(Math.max(layer.width, layer.height, TILE) / TILE)));
    this.tiles = new Map(); // by place: { indices, canvas, paths, style }
    this.loading = new Map();
    this.failed = new Map();
    this.wanted = [];
    this.style = 0;
  }

  /** Colours as 256 RGBA quadruples; alpha 0 hides. */
  paint(colours, outline) {
    this.colours = colours;
    this.shown = Array.from({ length: 256 }, (_, index) => colours[4 * index + 3] > 0);
    this.table = new Uint32Array(colours.buffer);
    this.outline = outline;
    this.style++;
  }

  /** Draw what a view shows: `scale` canvas px to a px of the slide, whose px (x, y) is the canvas's corner. */
  draw(context, x, y, scale) {
    const { layer } = this, perLabel = layer.across / layer.width;
    const size = scale * perLabel; // canvas px of a label px
    const level = Math.min(this.levels - 1, Math.max(0, Math.round(Math.log2(1 / size))));
    const across = this.size(level);
    const toCanvas = (column, row) => [
      Math.round((Math.min(column * 2 ** level, layer.width) * perLabel - x) * scale),
      Math.round((Math.min(row * 2 ** level, layer.height) * (layer.down / layer.height) - y) * scale),
    ];
    const first = (corner) => Math.max(0, Math.floor(corner / perLabel / 2 ** level / TILE));
    const last = (corner, extent) => Math.floor((corner + extent / scale) / perLabel / 2 ** level / TILE);
    const { width, height } = context.canvas;
    const columns = [first(x), Math.min(Math.ceil(across.width / TILE) - 1, last(x, width))];
    const rows = [first(y), Math.min(Math.ceil(across.height / TILE) - 1, last(y, height))];
    const wanted = [];
    context.imageSmoothingEnabled = false;
    for (let row = rows[0]; row <= rows[1]; row++) {
      for (let column = columns[0]; column <= columns[1]; column++) {
        const [left, top] = toCanvas(column * TILE, row * TILE);
        const [right, bottom] = toCanvas((column + 1) * TILE, (row + 1) * TILE);
        const place = { left, top, width: right - left, height: bottom - top };
        if (!this.drawTile(context, level, row, column, place, size * 2 ** level)) {
          wanted.push([level, row, column]);
          this.drawCoarser(context, level, row, column, place);
        }
      }
    }
    this.wanted = wanted;
    this.load();
  }

  size(level) {
    return { width: Math.ceil(this.layer.width / 2 ** level), height: Math.ceil(this.layer.height / 2 ** level) };
  }

  drawTile(context, level, row, column, place, pixel) {
    const tile = this.tiles.get(`${level}/${row}/${column}`);
    if (!tile) return false;
    const { width, height } = this.size(level);
    const used = [Math.min(TILE, width - column * TILE), Math.min(TILE, height - row * TILE)];
    if (this.outline && pixel >= THICK) this.drawLines(context, tile, place, used, pixel);
    else context.drawImage(this.painted(tile), 0, 0, ...used, place.left, place.top, place.width, place.height);
    return true;
  }

  drawCoarser(context, level, row, column, place) {
    for (let up = 1; level + up < this.levels; up++) {
      const tile = this.tiles.get(`${level + up}/${row >> up}/${column >> up}`);
      if (!tile) continue;
      const part = TILE / 2 ** up, { width, height } = this.size(level + up);
      const left = (column % 2 ** up) * part, top = (row % 2 ** up) * part;
      const wide = Math.min(part, width - (column >> up) * TILE - left), high = Math.min(part, height - (row >> up) * TILE - top);
      if (wide > 0 && high > 0) context.drawImage(this.painted(tile), left, top, wide, high, place.left, place.top, place.width, place.height);
      return;
    }
  }

  painted(tile) {
    if (tile.style !== this.style || !tile.canvas) {
      tile.canvas ??= Object.assign(document.createElement("canvas"), { width: TILE, height: TILE });
      const picture = new ImageData(TILE, TILE), target = new Uint32Array(picture.data.buffer);
      const { indices } = tile, { table } = this;
      const border = this.outline ? borderPixels(indices, TILE, this.shown) : null;
      for (let i = 0; i < indices.length; i++) target[i] = !border || border[i] ? table[indices[i]] : 0;
      tile.canvas.getContext("2d").putImageData(picture, 0, 0);
      Object.assign(tile, { style: this.style, paths: null });
    }
    return tile.canvas;
  }

  drawLines(context, tile, place, used, pixel) {
    if (tile.style !== this.style) Object.assign(tile, { paths: null, canvas: null });
    tile.paths ??= borderPaths(tile.indices, TILE, this.shown);
    tile.style = this.style;
    context.save();
    context.beginPath();
    context.rect(place.left, place.top, place.width, place.height);
    context.clip();
    context.translate(place.left, place.top);
    context.scale(place.width / used[0], place.height / used[1]);
    context.lineWidth = 2 * devicePixelRatio / pixel;
    for (const [index, path] of tile.paths) {
      context.strokeStyle = `rgb(${this.colours.slice(4 * index, 4 * index + 3).join(" ")})`;
      context.stroke(path);
    }
    context.restore();
  }

  /** Return the value at a px of the slide, or null outside; always that of full resolution. */
  async valueAt(x, y) {
    const { layer } = this;
    const column = Math.floor(x / layer.across * layer.width);
    const row = Math.floor(y / layer.down * layer.height);
    if (column < 0 || row < 0 || column >= layer.width || row >= layer.height) return null;
    const place = [0, Math.floor(row / TILE), Math.floor(column / TILE)];
    const tile = this.tiles.get(place.join("/")) ?? (await this.fetch(place));
    return tile ? tile.indices[(row % TILE) * TILE + (column % TILE)] : null;
  }

  load() {
    for (const place of this.wanted) {
      if (this.loading.size >= PARALLEL) return;
      const key = place.join("/");
      if (this.loading.has(key) || this.failed.get(key) > Date.now()) continue;
      this.fetch(place).then(() => {
        this.redraw();
        this.load();
      });
    }
  }

  /** Whether everything that was asked for has come. */
  get idle() {
    return !this.loading.size && !this.wanted.some((place) => !this.tiles.has(place.join("/")) && !this.failed.has(place.join("/")));
  }

  fetch(place) {
    const key = place.join("/");
    if (!this.loading.has(key)) this.loading.set(key, this.request(place, key).finally(() => this.loading.delete(key)));
    return this.loading.get(key);
  }

  async request([level, row, column], key) {
    const { entry, setName: set, layer } = this;
    try {
      const response = await fetch(address("/tile/labels", {
        id: entry.id, set, layer: layer.key, level, row, column, v: layer.version,
      }));
      if (!response.ok) throw new Error(await response.text());
      const tile = { indices: new Uint8Array(await response.arrayBuffer()) };
      this.keep(key, tile);
      return tile;
    } catch (error) {
      this.failed.set(key, Date.now() + 5000);
      this.complain(`${layer.title}: ${error.message}`);
      return null;
    }
  }

  keep(key, tile) {
    this.tiles.set(key, tile);
    const visible = new Set(this.wanted.map((place) => place.join("/")));
    for (const old of this.tiles.keys()) {
      if (this.tiles.size <= KEPT) break;
      if (!visible.has(old) && old !== key) this.tiles.delete(old);
    }
  }
}
