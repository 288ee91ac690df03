// A model that needs its complete input: a text or a file in, one prediction out.

import { translationForm } from "./input_translation.js";
import { fill, h, problem } from "./dom.js";
import { labelBars } from "./labels.js";
import { showWeights } from "./weights.js";

const HIDDEN = new Set(["task", "version", "attention"]);
const TEXT_TASKS = new Set(["sentiment", "text", "chat"]);

export function predictForm(client, model) {
  if (model.task === "translation") return translationForm(client, model);
  const field = h("textarea", { rows: "3", "aria-label": "Input", placeholder: model.reads });
  const result = h("div", { class: "result stack", "aria-live": "polite" });
  const file = h("input", { type: "file", "aria-label": "File", hidden: TEXT_TASKS.has(model.task) });
  const form = h(
    "form",
    {
      class: "stack",
      onsubmit: async (event) => {
        event.preventDefault();
        try {
          const [chosen] = file.files;
          const body = chosen
            ? { content: { base64: await base64Of(chosen) }, name: chosen.name }
            : { input: field.value };
          const record = await client.predict(model.name, { ...body, options: {} });
          form.querySelector(".problem")?.remove();
          show(result, record);
        } catch (error) {
          problem(form, error);
        }
      },
    },
    field,
    h("div", { class: "row" }, h("button", { class: "primary", type: "submit" }, "Predict"), file),
    result,
  );
  return form;
}

async function base64Of(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  let text = "";
  for (let k = 0; k < bytes.length; k += 8192) {
    text += String.fromCharCode(...bytes.subarray(k, k + 8192));
  }
  return btoa(text);
}

function show(place, record) {
  if (record.texts?.[0]?.probabilities) {
    fill(
      place,
      record.texts.map((text) => {
        const bars = h("div", {}),
          words = h("div", { class: "stack" });
        labelBars(bars, text);
        showWeights(words, text.words, text.label);
        return h("div", { class: "stack" }, bars, words);
      }),
    );
    return;
  }
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
