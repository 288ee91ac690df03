// A sentence of the visitor's own, in the words that the readers know.

import { capital, clearProblem, h, problem } from "./dom.js";

const MAX_SUGGESTIONS = 8;

/** A form with the words that fit the beginning of the last one; ontell takes a list of words. */
export function storyWriter(about, ontell) {
  const known = new Set(about.vocabulary);
  const suggestions = h("div", {
    class: "suggestions",
    role: "group",
    "aria-label": "Words that fit",
  });
  const field = h("input", {
    id: "sentence",
    type: "text",
    autocomplete: "off",
    spellcheck: "false",
    placeholder: "the tiger sleeps under a tree . then the emu …",
    "aria-describedby": "sentence-help",
    oninput: () => suggest(),
  });
  const form = h(
    "form",
    {
      class: "writer",
      onsubmit: (event) => {
        event.preventDefault();
        const words = split(field.value);
        const unknown = words.find((word) => !known.has(word));
        if (unknown)
          return problem(form, `The readers do not know “${unknown}”. Choose a word below.`);
        clearProblem(form);
        if (words.length) ontell(words);
        return undefined;
      },
    },
    h("label", { for: "sentence" }, "Your own story"),
    h(
      "div",
      { class: "row" },
      field,
      h("button", { class: "primary", type: "submit" }, "Read it"),
      h(
        "button",
        {
          class: "ghost",
          type: "button",
          onclick: () => {
            field.value = randomStory(about);
            suggest();
            form.requestSubmit();
          },
        },
        "Random story",
      ),
      h(
        "button",
        { class: "ghost", type: "button", onclick: () => ontell(about.story.split(" ")) },
        "The article’s story",
      ),
    ),
    suggestions,
    h(
      "p",
      { class: "hint", id: "sentence-help" },
      "End with “so this country is” to ask. The readers" +
        ` know ${about.vocabulary.length} words: two animals for each of ${about.countries.length}` +
        " countries, what they do, and sentences that say nothing.",
    ),
  );

  function suggest() {
    const words = field.value.toLowerCase().split(/\s+/);
    const begun = words.pop() ?? "";
    const fitting = follow(about, words, begun).slice(0, MAX_SUGGESTIONS);
    suggestions.replaceChildren(
      ...fitting.map((word) =>
        h(
          "button",
          {
            class: "chip",
            type: "button",
            onclick: () => {
              field.value = `${[...words, word].join(" ")} `;
              field.focus();
              suggest();
            },
          },
          word,
        ),
      ),
    );
  }

  suggest();
  return h(
    "section",
    { class: "panel writer-panel", "aria-label": "Write a story" },
    form,
    h(
      "details",
      {},
      h("summary", {}, "The animals and their countries"),
      h(
        "ul",
        { class: "animals" },
        about.countries.map((country) =>
          h("li", {}, h("b", {}, capital(country)), ` ${about.animals[country].join(", ")}`),
        ),
      ),
    ),
  );
}

function split(text) {
  return text
    .toLowerCase()
    .replace(/([.?!…])/g, " . ")
    .split(/\s+/)
    .filter(Boolean);
}

/** Words that may follow in the stories' language, those that begin as typed. */
function follow(about, words, begun) {
  const last = words.at(-1) ?? ".",
    animals = about.countries.flatMap((c) => about.animals[c]);
  const sentence = words
    .slice(words.lastIndexOf(".") + 1)
    .join(" ")
    .replace(/^then /, "");
  const fixed = [
    ...about.fillers,
    about.question.join(" "),
    ...about.actions.map(
      (action) => `the ${animals.find((a) => words.includes(a)) ?? "x"} ${action} .`,
    ),
  ];
  const next = fixed
    .filter((text) => sentence && text.startsWith(`${sentence} `))
    .map((text) => text.slice(sentence.length + 1).split(" ")[0]);
  if (last === ".") next.push("the", "then", "so");
  if (last === "then") next.push("the");
  if (last === "the" && sentence === "the") next.unshift(...animals);
  if (animals.includes(last)) next.push(...about.actions.map((action) => action.split(" ")[0]));
  const all = begun ? [...next, ...about.vocabulary] : next;
  return [...new Set(all)].filter((word) => word.startsWith(begun) && word !== begun);
}

function randomStory(about) {
  const pick = (list) => list[Math.floor(Math.random() * list.length)];
  const scenes = Array.from(
    { length: 2 + Math.floor(Math.random() * 2) },
    (_, k) =>
      `${k && Math.random() < 0.5 ? "then the" : "the"} ${pick(about.animals[pick(about.countries)])}` +
      ` ${pick(about.actions)} .`,
  );
  const filler = Math.random() < 0.5 ? [pick(about.fillers)] : [];
  return [...scenes, ...filler, about.question.join(" ")].join(" ");
}
