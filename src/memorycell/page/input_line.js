// A line of text at a time, with the label after it and after each of its words.

import { labelBars } from "./labels.js";
import { fill, h, percent } from "./dom.js";

export function lineInput(column) {
  const field = h("input", {
    type: "text",
    autocomplete: "off",
    "aria-label": "Text",
    placeholder: "A wonderful film",
  });
  const words = h("p", { class: "labelled" }),
    bars = h("div", {});
  const form = h(
    "form",
    {
      class: "row",
      onsubmit: (event) => {
        event.preventDefault();
        if (!field.value.trim()) return;
        column.feed([field.value]);
        field.value = "";
      },
    },
    field,
    h("button", { class: "primary", type: "submit" }, "Read"),
    h("button", { type: "button", onclick: () => column.feed([""]) }, "New text"),
  );

  function show() {
    const answer = column.answers[0];
    fill(
      words,
      (answer?.words ?? []).map(({ word, label, p }) =>
        h(
          "span",
          { class: "chip", title: `${label} ${percent(p)}` },
          word,
          h("small", {}, ` ${label}`),
        ),
      ),
    );
    labelBars(bars, answer);
  }

  return { element: h("div", { class: "stack" }, form, words, bars), show };
}
