// The words of a text, coloured by how much each supports its label.

import { fill, h } from "./dom.js";

const MIN_FULL_COLOUR = 0.01; // the smallest weight in full colour

/** words: {word, weight}, the weight being the probability of the label that is lost without it. */
export function showWeights(place, words, label) {
  if (!words?.length) return fill(place);
  const largest = Math.max(MIN_FULL_COLOUR, ...words.map(({ weight }) => Math.abs(weight)));
  return fill(
    place,
    h(
      "div",
      { class: "weighted", role: "group", "aria-label": `Words behind ${label}` },
      words.flatMap(({ word, weight }) => {
        const share = Math.round((100 * Math.abs(weight)) / largest);
        const points = `${weight < 0 ? "−" : "+"}${Math.abs(100 * weight).toFixed(1)}`;
        const mark = h(
          "mark",
          { title: `${points} points` },
          word,
          share >= 25 ? h("small", {}, ` ${points}`) : null,
        );
        const colour = weight < 0 ? "orange" : "blue";
        mark.style.background = `color-mix(in srgb, var(--${colour}-soft) ${share}%, transparent)`;
        return [mark, " "];
      }),
    ),
    h(
      "p",
      { class: "hint" },
      largest > MIN_FULL_COLOUR
        ? `Blue words support “${label}”, orange ones oppose it: by how many points its probability` +
            " falls without the word."
        : `No word changes the probability of “${label}” by a point.`,
    ),
  );
}
