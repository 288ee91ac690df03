// The most probable classes of an answer as bars.

import { fill, h, percent } from "./dom.js";

const MAX_BARS = 5;

export function labelBars(place, answer, waiting = "") {
  if (!answer?.probabilities)
    return fill(place, waiting ? h("p", { class: "hint" }, waiting) : null);
  const best = Object.entries(answer.probabilities)
    .sort((a, b) => b[1] - a[1])
    .slice(0, MAX_BARS);
  return fill(
    place,
    h(
      "ul",
      { class: "answer labels" },
      best.map(([label, p], k) => {
        const bar = h("span", { class: `bar ${k ? "other" : "blue"}` });
        bar.style.width = percent(p);
        return h(
          "li",
          {},
          h("span", { class: k ? "country" : "country first" }, label),
          h("span", { class: "track", "aria-hidden": "true" }, bar),
          h("span", { class: "value" }, percent(p)),
        );
      }),
    ),
  );
}
