// The parts of an inspection: layers, metrics with the baselines', training, gates.

import { Picture } from "./canvas.js";
import { axes, line } from "./chart.js";
import { decodeGates } from "./client.js";
import { ink } from "./colours.js";
import { capital, h, number, percent } from "./dom.js";
import { GatesPanel } from "./gates_panel.js";

const GATE_NAMES = {
  i: "input",
  f: "forget",
  g: "candidate",
  o: "output",
  z: "update",
  r: "reset",
  n: "candidate",
};

export function facts(pairs) {
  return Object.entries(pairs)
    .filter(([, value]) => value !== null && value !== undefined)
    .flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, number(value))]);
}

export function architecture(about) {
  const { layers = [], shapes = {}, kind } = about.architecture ?? {};
  return h(
    "section",
    { class: "panel tall" },
    h("h2", {}, "Architecture"),
    h("p", { class: "hint" }, kind ?? ""),
    table(
      ["layer", "cell", "inputs", "units", "layers"],
      layers.map((l) => [
        l.name,
        l.cell.toUpperCase(),
        l.input_size,
        l.hidden_size,
        `${l.num_layers}${l.bidirectional ? ", both directions" : ""}`,
      ]),
    ),
    h(
      "details",
      {},
      h("summary", {}, `All ${Object.keys(shapes).length} tensors`),
      table(
        ["tensor", "shape"],
        Object.entries(shapes).map(([name, shape]) => [name, shape.join(" × ")]),
      ),
    ),
    Object.keys(about.settings ?? {}).length
      ? h(
          "details",
          {},
          h("summary", {}, "Settings of its training"),
          table(
            ["setting", "value"],
            Object.entries(about.settings)
              .filter(([, value]) => value !== null)
              .map(([name, value]) => [
                name,
                typeof value === "object" ? JSON.stringify(value) : String(value),
              ]),
          ),
        )
      : null,
    (about.notes ?? []).length
      ? h(
          "details",
          {},
          h("summary", {}, "Notes on its data"),
          h(
            "ul",
            { class: "notes" },
            about.notes.map((note) => h("li", {}, note)),
          ),
        )
      : null,
  );
}

/** The primary metric of the model and of every baseline, as bars; the others in a table. */
export function metrics(about) {
  const { primary } = about,
    own = about.metrics ?? {},
    baselines = about.baselines ?? {};
  if (!(primary in own))
    return h(
      "section",
      { class: "panel" },
      h("h2", {}, "Metrics"),
      h("p", { class: "hint" }, "None are stored."),
    );
  const methods = [["this model", own], ...Object.entries(baselines)].filter(([, m]) =>
    Number.isFinite(m[primary]),
  );
  const most = Math.max(...methods.map(([, m]) => Math.abs(m[primary])), 1e-12);
  return h(
    "section",
    { class: "panel" },
    h("h2", {}, "Metrics on its test split"),
    h(
      "p",
      { class: "hint" },
      `${primary}, ${about.higher_is_better ? "higher" : "lower"} is better`,
    ),
    h(
      "ul",
      { class: "answer methods" },
      methods.map(([name, m], k) => {
        const bar = h("span", { class: `bar ${k ? "other" : "blue"}` });
        bar.style.width = percent(Math.abs(m[primary]) / most);
        return h(
          "li",
          {},
          h("span", { class: k ? "country" : "country first" }, name),
          h("span", { class: "track", "aria-hidden": "true" }, bar),
          h("span", { class: "value" }, number(m[primary])),
        );
      }),
    ),
    h(
      "details",
      {},
      h("summary", {}, "All metrics"),
      table(
        ["", ...Object.keys(own)],
        methods.map(([name, m]) => [name, ...Object.keys(own).map((key) => number(m[key] ?? NaN))]),
      ),
    ),
  );
}

export function training(about) {
  const history = about.history ?? [];
  const keys = Object.keys(history[0] ?? {}).filter(
    (key) => !/epoch|seconds|speed|gradient/.test(key) && typeof history[0][key] === "number",
  );
  if (history.length < 2 || !keys.length)
    return h(
      "section",
      { class: "panel" },
      h("h2", {}, "Training"),
      h("p", { class: "hint" }, "No history is stored."),
    );
  const choose = h(
    "select",
    { "aria-label": "Quantity", onchange: () => picture.draw() },
    keys.map((key) => h("option", { value: key }, key)),
  );
  const picture = new Picture({
    height: 190,
    label: `Training over ${history.length} epochs`,
    draw: (context, width, height) => {
      const values = history.map((epoch) => epoch[choose.value]);
      const scale = axes(context, width, height, values.length, values);
      line(
        context,
        values.map((v, k) => [scale.x(k), scale.y(v)]),
        ink("blue"),
        2.2,
      );
      context.fillStyle = ink("muted");
      context.fillText(`epoch 1`, scale.x(0), height - 5);
      context.fillText(String(history.length), scale.x(history.length - 1) - 14, height - 5);
    },
  });
  return h("section", { class: "panel" }, h("h2", {}, "Training"), choose, picture.canvas);
}

export function gateReport(inspection, gates) {
  const panel = new GatesPanel();
  const parts = [h("p", {}, inspection.sentence)];
  for (const layer of inspection.layers ?? []) {
    const life = layer.forget_half_life;
    parts.push(
      h("h3", {}, `${layer.name || "layer"}: ${layer.units} ${layer.cell.toUpperCase()} units`),
      table(
        ["gate", "nearly closed", "nearly open"],
        Object.entries(layer.saturation).map(([gate, { low, high }]) => [
          `${gate}, ${GATE_NAMES[gate] ?? ""}`,
          percent(low),
          percent(high),
        ]),
      ),
      h(
        "p",
        { class: "hint" },
        `${layer.dead} units never activate, ${layer.constant} are constant.` +
          (life
            ? ` Half-life of the cell state: median ${number(life.median)} steps, longest ${number(life.longest)}.`
            : ""),
      ),
    );
  }
  if ((inspection.advice ?? []).length)
    parts.push(
      h(
        "ul",
        { class: "notes" },
        inspection.advice.map((a) => h("li", {}, capital(a))),
      ),
    );
  if (gates) {
    panel.push(decodeGates(gates));
    panel.draw();
    parts.push(panel.element);
  }
  return parts;
}

function table(heads, rows) {
  return h(
    "div",
    { class: "table", tabindex: "0", role: "region", "aria-label": heads.join(", ") },
    h(
      "table",
      {},
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          heads.map((head) => h("th", { scope: "col" }, head)),
        ),
      ),
      h(
        "tbody",
        {},
        rows.map((row) =>
          h(
            "tr",
            {},
            row.map((cell, k) => h(k ? "td" : "th", k ? {} : { scope: "row" }, number(cell))),
          ),
        ),
      ),
    ),
  );
}
