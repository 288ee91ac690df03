// Rows of a CSV file, played at a chosen speed: forecasts, anomalies, classes of sequences.

import { Chart } from "./chart.js";
import { fill, h, number } from "./dom.js";
import { labelBars } from "./labels.js";
import { decodeText, readCsv } from "./csv.js";

const SPEEDS = [
  ["1 row/s", 1],
  ["10 rows/s", 10],
  ["100 rows/s", 100],
  ["as fast as possible", Infinity],
];
const MAX_FILE_BYTES = 50e6,
  MAX_BATCH = 50,
  TICK_MS = 50;
const SAMPLES = { glucose: "samples/glucose.csv" };

let tables = 0;

export function tableInput(column, about, onproblem) {
  const key = `table-${(tables += 1)}`;
  let rows = [],
    at = 0,
    playing = null,
    busy = false;
  const chart = new Chart(about.task);
  const file = h("input", {
    type: "file",
    accept: ".csv,.tsv,.txt",
    id: key,
    class: "visually-hidden",
    onchange: () => file.files[0] && load(file.files[0]),
  });
  const speed = h(
    "select",
    { "aria-label": "Speed" },
    SPEEDS.map(([name, value]) =>
      h("option", { value: String(value), selected: value === 10 }, name),
    ),
  );
  const go = h(
    "button",
    {
      type: "button",
      class: "primary",
      disabled: true,
      onclick: () => (playing ? stop() : start()),
    },
    "Play",
  );
  const step = h("button", { type: "button", disabled: true, onclick: () => read(1) }, "One row");
  const state = h("p", { class: "hint" }),
    bars = h("div", {}),
    blame = h("p", { class: "blame", "aria-live": "polite" });
  const sample = (about.columns ?? []).includes("glucose") ? SAMPLES.glucose : null;
  const zone = h(
    "div",
    { class: "drop" },
    file,
    h("label", { class: "file", for: key }, "Choose a CSV file"),
    sample
      ? h("button", { type: "button", onclick: () => fetchSample() }, "Use two sample days")
      : null,
    h(
      "span",
      { class: "hint" },
      `or drop one here. Columns: ${(about.columns ?? []).join(", ") || "as in training"}`,
    ),
  );
  const element = h(
    "div",
    { class: "stack" },
    zone,
    h("div", { class: "row" }, go, step, speed),
    state,
    chart.element,
    bars,
    blame,
  );
  for (const name of ["dragenter", "dragover"]) {
    zone.addEventListener(name, (event) => {
      event.preventDefault();
      zone.classList.add("over");
    });
  }
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    if (event.dataTransfer.files[0]) load(event.dataTransfer.files[0]);
  });

  async function load(chosen) {
    if (chosen.size > MAX_FILE_BYTES)
      return onproblem(new Error(`${chosen.name}: at most ${MAX_FILE_BYTES / 1e6} MB`));
    const bytes = new Uint8Array(await chosen.arrayBuffer());
    file.value = ""; // so that the same file can be chosen again
    return use(() => decodeText(bytes), chosen.name);
  }

  async function fetchSample() {
    const text = await (await fetch(sample)).text();
    use(() => text, "two sample days");
  }

  function use(read, name) {
    stop();
    try {
      const table = readCsv(read());
      if (!table.length) throw new Error("no rows after the names of the columns");
      rows = table;
    } catch (error) {
      return onproblem(new Error(`${name}: ${error.message}`));
    }
    at = 0;
    go.disabled = step.disabled = !rows.length;
    describe(name);
    return start();
  }

  function describe(name) {
    if (name) state.dataset.name = name;
    state.textContent = rows.length
      ? `${state.dataset.name}: row ${at.toLocaleString("en")} of ${rows.length.toLocaleString("en")}`
      : "";
  }

  function start() {
    if (at >= rows.length) at = 0;
    go.textContent = "Pause";
    let owed = 0,
      before = performance.now();
    playing = setInterval(() => {
      const now = performance.now(),
        rate = Number(speed.value);
      owed = Math.min(owed + (rate * (now - before)) / 1000, MAX_BATCH);
      before = now;
      if (busy || owed < 1) return;
      const count = Math.floor(owed);
      owed -= count;
      read(count);
    }, TICK_MS);
  }

  function stop() {
    clearInterval(playing);
    playing = null;
    go.textContent = "Play";
  }

  async function read(count) {
    busy = true;
    const batch = rows.slice(at, at + count);
    let failed = null;
    const feed = async (some) => {
      failed = null;
      const onproblem = (error) => {
        failed = error;
      };
      if (await column.feed(some, { onproblem })) at += some.length;
    };
    await feed(batch);
    // Nothing of rows that were sent together is read if one of them cannot be: find it.
    if (failed && batch.length > 1) {
      for (let k = 0; k < batch.length && (!k || !failed); k += 1) await feed([batch[k]]);
    }
    if (failed) {
      const reason = failed.message.replace(/^row\b[:,]? */, "");
      const hint = at || !column.position ? "" : ". For an empty state, use “Start again”";
      onproblem(new Error(`${state.dataset.name}, row ${at + 1}: ${reason}${hint}`));
    }
    if (failed || at >= rows.length) stop();
    describe();
    busy = false;
  }

  function show() {
    chart.show(column.past);
    const answer = column.answers[0];
    labelBars(bars, answer);
    fill(
      blame,
      answer?.anomaly
        ? [
            h("b", {}, "Anomaly. "),
            `Responsible: ${Object.entries(answer.blame ?? {})
              .map(([name, share]) => `${name} ${typeof share === "number" ? number(share) : ""}`)
              .join(", ")}`,
          ]
        : "",
    );
    go.disabled = step.disabled = !rows.length;
  }

  return { element, show, stop };
}
