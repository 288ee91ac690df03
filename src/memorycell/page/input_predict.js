// A model that needs its complete input: one text in, one prediction out.

import { fill, h, problem } from "./dom.js";

const HIDDEN = new Set(["task", "version", "attention"]);

export function predictForm(client, model) {
  const field = h("textarea", { rows: "3", "aria-label": "Input", placeholder: model.reads });
  const result = h("div", { class: "result", "aria-live": "polite" });
  const form = h(
    "form",
    {
      class: "stack",
      onsubmit: async (event) => {
        event.preventDefault();
        try {
          show(result, await client.predict(model.name, { input: field.value, options: {} }));
        } catch (error) {
          problem(form, error);
        }
      },
    },
    field,
    h("div", { class: "row" }, h("button", { class: "primary", type: "submit" }, "Predict")),
    result,
  );
  return form;
}

function show(place, record) {
  fill(
    place,
    h(
      "dl",
      { class: "facts" },
      Object.entries(record)
        .filter(([key]) => !HIDDEN.has(key))
        .flatMap(([key, value]) => [
          h("dt", {}, key),
          h(
            "dd",
            {},
            typeof value === "object" ? JSON.stringify(value).slice(0, 2000) : String(value),
          ),
        ]),
    ),
  );
}
