// A heat map of units over time in constant memory: a ring of columns, one pixel per unit, that is
// stretched to its place. A new step changes one column.

import { Picture } from "./canvas.js";
import { ink, level, palette } from "./colours.js";

const COLUMNS = 400,
  HEIGHT = 200,
  MIN_COLUMN_PX = 2;
export const SIGNED = new Set(["g", "c", "h", "n"]);

/** The last steps of one layer: gate -> ring of values, the latest at `end`. */
export class GateRing {
  constructor(names, units) {
    this.names = names;
    this.units = units;
    this.data = new Map(names.map((name) => [name, new Float32Array(COLUMNS * units)]));
    this.count = 0; // columns that are valid
    this.end = 0; // the next column to write
    this.version = 0;
  }

  push(row) {
    for (const name of this.names) this.data.get(name).set(row(name), this.end * this.units);
    this.end = (this.end + 1) % COLUMNS;
    this.count = Math.min(this.count + 1, COLUMNS);
  }

  /** Remove the last columns. */
  drop(columns) {
    const removed = Math.min(columns, this.count);
    this.count -= removed;
    this.end = (this.end - removed + COLUMNS) % COLUMNS;
    this.version += 1;
  }

  copy() {
    const other = new GateRing(this.names, this.units);
    for (const [name, values] of this.data) other.data.get(name).set(values);
    Object.assign(other, { count: this.count, end: this.end });
    return other;
  }

  /** Position in the ring of the k-th column from the oldest. */
  at(k) {
    return (this.end - this.count + k + COLUMNS) % COLUMNS;
  }

  value(name, k, unit) {
    return this.data.get(name)[this.at(k) * this.units + unit];
  }
}

export class HeatMap {
  constructor(onunit) {
    this.ring = null;
    this.gate = "f";
    this.unit = 0;
    this.limit = 1;
    this.picture = new Picture({
      height: HEIGHT,
      className: "heat",
      label: "Gates over time",
      draw: (...place) => this.paint(...place),
    });
    this.element = this.picture.canvas;
    this.element.addEventListener("click", (event) => {
      if (this.ring)
        onunit(
          Math.min(Math.floor((event.offsetY / HEIGHT) * this.ring.units), this.ring.units - 1),
        );
    });
    addEventListener("themechange", () => {
      this.drawn = null;
    });
  }

  show(ring, gate, unit) {
    if (ring !== this.ring || gate !== this.gate) this.drawn = null;
    this.ring = ring;
    this.gate = gate;
    this.unit = unit;
    this.picture.draw();
  }

  paint(context, width, height) {
    const { ring } = this;
    context.fillStyle = ink("raised");
    context.fillRect(0, 0, width, height);
    if (!ring) return;
    this.fillPixels();
    const shown = Math.min(ring.count, Math.floor(width / MIN_COLUMN_PX));
    const column = Math.max(MIN_COLUMN_PX, Math.min(14, width / Math.max(shown, 1)));
    context.imageSmoothingEnabled = false;
    let x = 0,
      from = ring.at(ring.count - shown),
      left = shown;
    while (left > 0) {
      // at most two pieces of the ring
      const piece = Math.min(left, COLUMNS - from);
      context.drawImage(this.pixels, from, 0, piece, ring.units, x, 0, piece * column, height);
      x += piece * column;
      left -= piece;
      from = 0;
    }
    const row = height / ring.units;
    context.strokeStyle = ink("ink");
    context.lineWidth = 1;
    context.strokeRect(0.5, this.unit * row - 0.5, Math.min(x, width) - 1, row + 1);
  }

  /** Write the columns that are new since the last picture; all of them after a change. */
  fillPixels() {
    const { ring } = this,
      signed = SIGNED.has(this.gate);
    let fresh =
      this.drawn && this.drawn.version === ring.version
        ? (ring.end - this.drawn.end + COLUMNS) % COLUMNS
        : ring.count;
    if (!this.drawn || this.pixels.height !== ring.units) {
      this.pixels = Object.assign(document.createElement("canvas"), {
        width: COLUMNS,
        height: ring.units,
      });
      this.limit = 1;
      fresh = ring.count;
    }
    const peak = signed ? this.peak(fresh) : 1;
    if (peak > this.limit) {
      this.limit = 1.2 * peak;
      fresh = ring.count;
    }
    const context = this.pixels.getContext("2d"),
      colours = palette(signed);
    const image = context.createImageData(1, ring.units),
      pixels = new Uint32Array(image.data.buffer);
    const values = ring.data.get(this.gate),
      low = signed ? -this.limit : 0;
    for (let k = ring.count - fresh; k < ring.count; k += 1) {
      const at = ring.at(k);
      for (let unit = 0; unit < ring.units; unit += 1) {
        pixels[unit] = colours[level(values[at * ring.units + unit], low, this.limit)];
      }
      context.putImageData(image, at, 0);
    }
    this.drawn = { end: ring.end, version: ring.version };
  }

  peak(fresh) {
    const { ring } = this,
      values = ring.data.get(this.gate);
    let peak = 0;
    for (let k = ring.count - fresh; k < ring.count; k += 1) {
      const at = ring.at(k) * ring.units;
      for (let unit = 0; unit < ring.units; unit += 1) {
        const size = Math.abs(values[at + unit]);
        if (size > peak) peak = size;
      }
    }
    return peak;
  }
}
