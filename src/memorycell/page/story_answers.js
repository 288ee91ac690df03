// What happened at a word of the story: in a sentence, as shares of the cell state, and the answers.

import { capital, h, percent } from "./dom.js";

export const MIN_BELIEF = 0.5;
const MAX_BARS = 3;
const MEANING = {
  dropped: ["Forget gate", "of the cell state removed", "|(1 − f) ⊙ c| / |c|"],
  written: ["Input gate", "of the new cell state written now", "|i ⊙ g| / |c|"],
  let_out: ["Output gate", "of the cell state shown", "|h| / |tanh c|"],
};

/** Of the last of some records; colours: those of the countries of the story's animals. */
export function sentence(records, colours) {
  const record = records.at(-1);
  if (!record) return "Both networks have read nothing.";
  if (record.p < MIN_BELIEF) return "The LSTM has no clear answer here.";
  const before = records
    .slice(0, -1)
    .findLast(({ answer, p }) => p >= MIN_BELIEF && colours.has(answer));
  const answer = capital(record.answer);
  if (!before || !colours.has(record.answer)) return `The LSTM answers ${answer}.`;
  if (before.answer === record.answer) return `The LSTM keeps its answer: ${answer}.`;
  return `The answer changes from ${capital(before.answer)} to ${answer}.`;
}

/** The work of the three gates at a word, as bars. */
export function meters(record) {
  return Object.entries(MEANING).map(([key, [name, meaning, formula]]) => {
    const bar = h("span", { class: `bar ${key}` });
    bar.style.width = percent(record ? Math.min(record[key], 1) : 0);
    return h(
      "div",
      { class: "meter", title: formula },
      h("dt", {}, name),
      h(
        "dd",
        {},
        h("b", {}, record ? percent(record[key]) : "–"),
        ` ${meaning}`,
        h("span", { class: "track", "aria-hidden": "true" }, bar),
      ),
    );
  });
}

/** The most probable countries; belief: one probability for each, or undefined before the story. */
export function answerBars(belief, { title, countries, colours }) {
  const best = countries
    .map((country, k) => [belief?.[k] ?? 0, country])
    .sort((a, b) => b[0] - a[0])
    .slice(0, MAX_BARS);
  const rows = best.map(([p, country]) => {
    const bar = h("span", { class: `bar ${colours?.get(country) ?? "other"}` });
    bar.style.width = percent(p);
    return h(
      "li",
      {},
      h("span", { class: "country" }, belief ? capital(country) : "–"),
      h("span", { class: "track", "aria-hidden": "true" }, bar),
      h("span", { class: "value" }, belief ? percent(p) : ""),
    );
  });
  return h("div", { class: "answer" }, h("h4", {}, title), h("ul", {}, rows));
}
