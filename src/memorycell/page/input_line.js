// A line of text at a time, with the label after it and after each of its words, and the words that
// the label rests on.

import { labelBars } from "./labels.js";
import { fill, h, percent } from "./dom.js";
import { showWeights } from "./weights.js";

const COLOURS = ["purple", "green", "other"];

export function lineInput(column) {
  const field = h("input", {
    type: "text",
    autocomplete: "off",
    "aria-label": "Text",
    placeholder: "A wonderful film",
  });
  const words = h("div", { class: "labelled", role: "group", "aria-label": "The label after each word" }),
    bars = h("div", { "aria-live": "polite" }),
    weights = h("div", { class: "stack" });
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
  let weighed = null;

  function show() {
    const answer = column.answers[0];
    const labels = Object.keys(answer?.probabilities ?? {});
    fill(
      words,
      (answer?.words ?? []).map(({ word, label, p }) =>
        h(
          "span",
          { class: `chip ${colourOf(labels, label)}`, title: `${label} ${percent(p)}` },
          word,
          h("small", {}, ` ${label} ${percent(p)}`),
        ),
      ),
    );
    labelBars(bars, answer);
    weigh(answer);
  }

  /** The complete text once more, without each of its words. */
  async function weigh(answer) {
    if (answer?.text === weighed) return;
    weighed = answer?.text;
    if (!answer) {
      showWeights(weights, null);
      return;
    }
    const { client, model } = column;
    try {
      const { texts } = await client.predict(model.name, { input: answer.text });
      if (answer.text === weighed) showWeights(weights, texts[0].words, texts[0].label);
    } catch {
      showWeights(weights, null); // the answer above stays
    }
  }

  return { element: h("div", { class: "stack" }, form, words, bars, weights), show };
}

function colourOf(labels, label) {
  return COLOURS[Math.min(labels.indexOf(label), COLOURS.length - 1)] ?? "other";
}
