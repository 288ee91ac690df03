// A bare recurrent model: vectors by hand, or a random sequence.

import { fill, h, number } from "./dom.js";

const MAX_SHOWN = 12,
  RATES = [20, 100],
  STEP = 0.3,
  MAX_BATCH = 50,
  TICK_MS = 10;

export function tensorInput(column, about) {
  const size = about.input_size ?? 1;
  let running = null,
    walk = new Array(size).fill(0);
  const field = h("input", {
    type: "text",
    "aria-label": `${size} numbers`,
    placeholder: `${size} numbers, separated by spaces`,
  });
  const output = h("p", { class: "mono" });
  const rate = h(
    "select",
    { "aria-label": "Steps per second" },
    RATES.map((value) => h("option", { value: String(value) }, `${value} steps/s`)),
  );
  const go = h(
    "button",
    { type: "button", onclick: () => (running ? stop() : start()) },
    "Random sequence",
  );
  const form = h(
    "form",
    {
      class: "row",
      onsubmit: (event) => {
        event.preventDefault();
        const x = field.value
          .trim()
          .split(/[\s,]+/)
          .map(Number);
        column.feed([x]);
      },
    },
    field,
    h("button", { class: "primary", type: "submit" }, "Step"),
    go,
    rate,
  );

  function start() {
    go.textContent = "Stop";
    let owed = 0,
      busy = false,
      before = performance.now();
    running = setInterval(async () => {
      const now = performance.now();
      owed = Math.min(owed + ((now - before) * Number(rate.value)) / 1000, MAX_BATCH);
      before = now;
      if (busy || owed < 1) return;
      busy = true;
      const items = Array.from({ length: Math.floor(owed) }, () => {
        walk = walk.map((v) => 0.97 * v + STEP * (Math.random() - 0.5));
        return walk;
      });
      owed -= items.length;
      if (!(await column.feed(items))) stop();
      busy = false;
    }, TICK_MS);
  }

  function stop() {
    clearInterval(running);
    running = null;
    go.textContent = "Random sequence";
  }

  function show() {
    const y = [column.answers].flat(3);
    fill(
      output,
      y.length
        ? `${y.slice(0, MAX_SHOWN).map(number).join("  ")}${y.length > MAX_SHOWN ? "  …" : ""}`
        : "",
    );
  }

  return { element: h("div", { class: "stack" }, form, output), show, stop };
}
