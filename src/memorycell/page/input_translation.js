// Translations with the attention of every word: which words of the source it looked at.

import { fill, h, percent, problem } from "./dom.js";

const MAX_SOURCES = 40,
  MIN_SHOWN = 0.1;

export function translationForm(client, model) {
  const field = h("textarea", {
    rows: "2",
    "aria-label": "Text to translate",
    placeholder: "One sentence per line",
  });
  const result = h("div", { class: "stack", "aria-live": "polite" });
  const beam = h(
    "select",
    { "aria-label": "Search" },
    h("option", { value: "5" }, "beam of 5"),
    h("option", { value: "1" }, "greedy"),
  );
  const memory = h("input", { type: "checkbox", checked: true, id: "translation-memory" });
  const form = h(
    "form",
    {
      class: "stack",
      onsubmit: async (event) => {
        event.preventDefault();
        try {
          const options = { beam: Number(beam.value), memory: memory.checked };
          const record = await client.predict(model.name, { input: field.value, options });
          form.querySelector(".problem")?.remove();
          fill(result, record.translations.map(translation));
        } catch (error) {
          problem(form, error);
        }
      },
    },
    field,
    h(
      "div",
      { class: "row" },
      h("button", { class: "primary", type: "submit" }, "Translate"),
      beam,
      h("span", { class: "row" }, memory, h("label", { for: memory.id }, "Use its translation memory")),
    ),
    result,
  );
  return form;
}

function translation(one) {
  const { tokens, sources, attention } = one;
  const notes = [
    one.similarity ? null : `${percent(one.p)} per word`,
    one.unsure ? "unsure" : null,
    one.similarity
      ? `the stored translation of a sentence that is ${percent(one.similarity)} alike: no attention`
      : null,
    one.note ?? null,
  ].filter(Boolean);
  const chips = (words, kind) =>
    words.map((word) => h("span", { class: `chip ${kind}` }, word.trim() || "·"));
  const from = chips(sources, "source");
  const to = tokens.map((word, k) =>
    h(
      "button",
      {
        type: "button",
        class: "chip",
        "aria-label": `${word.trim()}: ${strongest(sources, attention[k])}`,
        onfocus: () => look(k),
        onmouseenter: () => look(k),
        onclick: () => look(k),
      },
      word.trim() || "·",
    ),
  );

  /** Colour the source by the attention of a word of the translation. */
  function look(k) {
    to.forEach((button, j) => button.classList.toggle("chosen", j === k));
    from.forEach((chip, j) => shade(chip, attention[k]?.[j] ?? 0));
  }

  return h(
    "section",
    { class: "translation stack", "aria-label": `Translation of ${one.source}` },
    h("p", { class: "reply" }, one.text || "(nothing: the model ended at once)"),
    h("p", { class: "hint" }, notes.join(", ")),
    tokens.length
      ? [
          h("div", { class: "row aligned" }, h("span", { class: "hint" }, "source"), from),
          h("div", { class: "row aligned" }, h("span", { class: "hint" }, "translation"), to),
        ]
      : null,
    tokens.length && sources.length <= MAX_SOURCES ? heat(one) : null,
  );
}

function strongest(sources, row) {
  const k = (row ?? []).indexOf(Math.max(...(row ?? [0])));
  return k < 0 ? "no attention" : `most attention to ${sources[k].trim()}, ${percent(row[k])}`;
}

/** A table: rows are the words of the translation, columns those of the source. */
function heat({ tokens, sources, attention }) {
  return h(
    "div",
    { class: "table", tabindex: "0", role: "region", "aria-label": "Attention" },
    h(
      "table",
      { class: "attention" },
      h("caption", { class: "visually-hidden" }, "Attention of each word of the translation"),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          h("td", {}),
          sources.map((word) => h("th", { scope: "col" }, word.trim() || "·")),
        ),
      ),
      h(
        "tbody",
        {},
        tokens.map((word, k) =>
          h(
            "tr",
            {},
            h("th", { scope: "row" }, word.trim() || "·"),
            sources.map((_, j) => {
              const share = attention[k]?.[j] ?? 0;
              const text = share >= MIN_SHOWN ? percent(share) : "";
              return shade(h("td", { title: percent(share) }, text), share);
            }),
          ),
        ),
      ),
    ),
  );
}

function shade(element, share) {
  element.style.background = `color-mix(in srgb, var(--blue) ${percent(0.55 * share)}, transparent)`;
  return element;
}
