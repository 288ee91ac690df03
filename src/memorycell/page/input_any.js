// A task without an input of its own: items as text or JSON, answers as JSON.

import { fill, h } from "./dom.js";

const MAX_SHOWN_CHARS = 4000;

/** JSON where it is, else the text itself. */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

export function anyInput(column, about) {
  const example =
    about.example === null || about.example === undefined ? "" : JSON.stringify(about.example);
  const field = h("textarea", { rows: "3", "aria-label": "Item", placeholder: about.reads ?? "" });
  field.value = example;
  const answer = h("pre", { class: "mono json", "aria-live": "polite", tabindex: "0" });
  const form = h(
    "form",
    {
      class: "stack",
      onsubmit: (event) => {
        event.preventDefault();
        if (field.value.trim()) column.feed([parsed(field.value.trim())]);
      },
    },
    field,
    h("div", { class: "row" }, h("button", { class: "primary", type: "submit" }, "Read")),
    answer,
  );

  function show() {
    const text = column.answers.map((record) => JSON.stringify(record, null, 1)).join("\n");
    fill(answer, text.slice(0, MAX_SHOWN_CHARS));
  }

  return { element: form, show };
}
