// A bare recurrent model: vectors by hand, or a random sequence.

import { fill, h, number } from "./dom.js";

const MAX_SHOWN = 12,
  EVERY_MS = 50,
  STEP = 0.3;

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
  );

  function start() {
    go.textContent = "Stop";
    running = setInterval(() => {
      walk = walk.map((v) => 0.97 * v + STEP * (Math.random() - 0.5));
      column.feed([walk]);
    }, EVERY_MS);
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
