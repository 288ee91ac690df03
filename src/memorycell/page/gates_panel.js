// The gates of a session while it runs: a heat map, one unit over time, and how long the cell
// remembers.

import { Picture } from "./canvas.js";
import { ink } from "./colours.js";
import { counted, h, number } from "./dom.js";
import { GateRing, HeatMap, SIGNED } from "./heat.js";

const NAMES = {
  f: "Forget f",
  i: "Input i",
  o: "Output o",
  c: "Cell c",
  g: "Candidate g",
  h: "Hidden h",
  z: "Update z",
  r: "Reset r",
  n: "Candidate n",
};
const ORDER = ["f", "z", "i", "r", "o", "c", "g", "n", "h"];
const UNIT_LINES = [
  ["f", "orange"],
  ["z", "orange"],
  ["i", "blue"],
  ["o", "green"],
  ["c", "purple"],
  ["h", "other"],
];
const MIN_KEEP = 1e-4,
  MAX_KEEP = 1 - 1e-5;

let panels = 0;

export class GatesPanel {
  constructor() {
    this.key = `gates-${(panels += 1)}`;
    this.rings = [];
    this.layer = 0;
    this.unit = 0;
    this.gate = null;
    this.heat = new HeatMap((unit) => this.choose(unit));
    this.buttons = h("div", {
      class: "segments",
      role: "group",
      "aria-label": "What the map shows",
    });
    this.layers = h("select", {
      "aria-label": "Layer",
      hidden: true,
      onchange: () => {
        this.layer = Number(this.layers.value);
        this.choose(0);
      },
    });
    this.unitField = h("input", {
      id: `${this.key}-unit`,
      type: "number",
      min: "1",
      value: "1",
      onchange: () => this.choose(Number(this.unitField.value) - 1),
    });
    this.line = new Picture({
      height: 90,
      label: "One unit over time",
      draw: (...p) => this.paintUnit(...p),
    });
    this.legend = h("p", { class: "hint legend" });
    this.horizon = h("p", { class: "horizon" });
    this.empty = h("p", { class: "hint" }, "The gates appear with the first step.");
    this.body = h(
      "div",
      { class: "gates-body", hidden: true },
      h("div", { class: "row" }, this.buttons, this.layers),
      this.heat.element,
      h("p", { class: "hint axis" }, h("span", {}, "units ↓"), h("span", {}, "steps →")),
      h(
        "div",
        { class: "row unit-row" },
        h("label", { for: `${this.key}-unit` }, "Unit"),
        this.unitField,
        this.legend,
      ),
      this.line.canvas,
      this.horizon,
    );
    this.element = h("section", { class: "gates", "aria-label": "Gates" }, this.empty, this.body);
  }

  /** The gates of an answer; see `decodeGates`. Returns the number of steps. */
  push(gates) {
    if (!this.rings.length || this.rings[0].units !== gates.layers[0].units)
      this.start(gates.layers);
    if (gates.complete) this.rings.forEach((ring) => ring.drop(ring.count));
    for (let t = 0; t < gates.steps; t += 1) {
      this.rings.forEach((ring, layer) => ring.push((name) => gates.row(t, layer, name)));
    }
    return gates.steps;
  }

  start(layers) {
    this.rings = layers.map(({ names, units }) => new GateRing(names, units));
    this.titles = layers.map(({ name }) => name);
    this.setUp();
  }

  setUp() {
    const { names } = this.rings[0];
    this.gate = ORDER.find((name) => names.includes(name));
    this.buttons.replaceChildren(
      ...ORDER.filter((name) => names.includes(name)).map((name) =>
        h(
          "button",
          {
            type: "button",
            "data-gate": name,
            onclick: () => {
              this.gate = name;
              this.draw();
            },
          },
          NAMES[name] ?? name,
        ),
      ),
    );
    this.layers.replaceChildren(
      ...this.titles.map((title, k) =>
        h("option", { value: String(k) }, title || `Layer ${k + 1}`),
      ),
    );
    this.layers.hidden = this.rings.length < 2;
    this.empty.hidden = true;
    this.body.hidden = false;
  }

  drop(steps) {
    this.rings.forEach((ring) => ring.drop(steps));
  }

  copyFrom(other) {
    if (!other.rings.length) return;
    this.rings = other.rings.map((ring) => ring.copy());
    this.titles = other.titles;
    this.setUp();
    this.gate = other.gate;
    this.unit = other.unit;
  }

  choose(unit) {
    const units = this.rings[this.layer]?.units ?? 1;
    this.unit = Math.max(0, Math.min(unit || 0, units - 1));
    this.unitField.value = String(this.unit + 1);
    this.unitField.max = String(units);
    this.draw();
  }

  draw() {
    const ring = this.rings[this.layer];
    if (!ring) return;
    for (const button of this.buttons.children) {
      button.setAttribute("aria-pressed", String(button.dataset.gate === this.gate));
    }
    this.heat.show(ring, this.gate, this.unit);
    this.line.draw();
    this.describe(ring);
  }

  describe(ring) {
    const lines = UNIT_LINES.filter(([name]) => ring.names.includes(name));
    if (this.legend.childElementCount !== lines.length) {
      this.legend.replaceChildren(
        ...lines.map(([name, colour]) => h("span", { class: `key ${colour}` }, name)),
      );
    }
    const life = this.halfLives(ring);
    const size = `${counted(ring.units, "unit")} over the last ${counted(ring.count, "step")}`;
    this.heat.picture.label = `${NAMES[this.gate] ?? this.gate} of ${size}`;
    this.horizon.textContent = life
      ? `Memory horizon: half of the units lose half of their cell state within ${number(life.median)}` +
        ` steps; the slowest unit (${life.slowest + 1}) keeps half for ${number(life.longest)} steps.`
      : "";
  }

  /** From the geometric mean of the forget gate: -ln 2 / ln f steps to one half. */
  halfLives(ring) {
    const gate = ring.names.includes("f") ? "f" : ring.names.includes("z") ? "z" : null;
    if (!gate || !ring.count) return null;
    const values = ring.data.get(gate),
      sums = new Float64Array(ring.units);
    const shown = Math.min(ring.count, 100);
    for (let k = ring.count - shown; k < ring.count; k += 1) {
      const at = ring.at(k) * ring.units;
      for (let unit = 0; unit < ring.units; unit += 1) {
        sums[unit] += Math.log(Math.min(Math.max(values[at + unit], MIN_KEEP), MAX_KEEP));
      }
    }
    const lives = Array.from(sums, (sum) => -Math.LN2 / (sum / shown));
    const longest = Math.max(...lives);
    return {
      median: [...lives].sort((a, b) => a - b)[lives.length >> 1],
      longest,
      slowest: lives.indexOf(longest),
    };
  }

  paintUnit(context, width, height) {
    const ring = this.rings[this.layer];
    if (!ring) return;
    const shown = Math.min(ring.count, Math.floor(width / 2));
    const column = Math.max(2, Math.min(14, width / Math.max(shown, 1)));
    context.strokeStyle = ink("line");
    for (const share of [0, 0.5, 1]) {
      const y = Math.round(4 + (1 - share) * (height - 8)) + 0.5;
      context.beginPath();
      context.moveTo(0, y);
      context.lineTo(width, y);
      context.stroke();
    }
    for (const [name, colour] of UNIT_LINES) {
      if (!ring.names.includes(name)) continue;
      let limit = 1;
      for (let k = ring.count - shown; k < ring.count; k += 1) {
        limit = Math.max(limit, Math.abs(ring.value(name, k, this.unit)));
      }
      context.strokeStyle = ink(colour);
      context.lineWidth = name === "c" ? 2.2 : 1.5;
      context.beginPath();
      for (let k = 0; k < shown; k += 1) {
        const value = ring.value(name, ring.count - shown + k, this.unit);
        const share = SIGNED.has(name) ? 0.5 + value / limit / 2 : value;
        const x = (k + 0.5) * column,
          y = 4 + (1 - share) * (height - 8);
        if (k) context.lineTo(x, y);
        else context.moveTo(x, y);
      }
      context.stroke();
    }
    this.line.label = `Unit ${this.unit + 1} over the last ${counted(shown, "step")}`;
  }
}
