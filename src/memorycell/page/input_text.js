// Text as it is typed, and the words that may follow. Going back in the text rewinds the state.

import { fill, h, percent } from "./dom.js";

const MAX_LETTERS = 40,
  MAX_WORDS_CHARS = 400,
  MAX_PIECE_CHARS = 400;

/** What is read next of a text: a character while it is typed, a word of a short text that was
 *  pasted, or a part of a long one. */
function firstPiece(text) {
  if (text.length <= MAX_LETTERS) return new Intl.Segmenter().segment(text).containing(0).segment;
  if (text.length <= MAX_WORDS_CHARS) return text.match(/\s*\S+|\s+/)[0];
  const part = text.slice(0, MAX_PIECE_CHARS).replace(/[\ud800-\udbff]$/, ""); // half a character
  return part.match(/[^]*\s/)?.[0] ?? part;
}

export function textInput(column) {
  let base = ""; // text of records that are no longer kept
  let busy = false;
  const area = h("textarea", {
    rows: "4",
    spellcheck: "false",
    placeholder: "Type here",
    "aria-label": "Text",
    oninput: () => sync(),
  });
  const words = h("div", { class: "next", role: "group", "aria-label": "Next words" });
  const score = h("p", { class: "hint" });
  const element = h("div", {}, area, words, score);
  const textOf = (record) => JSON.parse(record.item);
  const read = () => base + column.past.map(textOf).join("");
  column.ondropped = (records) => {
    base += records.map(textOf).join("");
  };

  async function sync() {
    if (busy) return;
    busy = true;
    while (area.value !== read() && !column.session.ended) {
      const wanted = area.value;
      if (!wanted.startsWith(base)) {
        base = "";
        await column.restart();
      }
      let kept = base.length,
        k = 0;
      for (const record of column.past) {
        const text = textOf(record);
        if (!wanted.startsWith(text, kept)) break;
        kept += text.length;
        k += 1;
      }
      if (k < column.position) await column.goTo(k);
      const rest = wanted.slice(kept);
      if (!rest) continue;
      const piece = firstPiece(rest);
      const watch = rest.length - piece.length < MAX_WORDS_CHARS; // the map shows the last steps
      if (!(await column.feed([JSON.stringify(piece)], { watch }))) break;
    }
    busy = false;
  }

  function show() {
    if (!busy && area.value !== read()) {
      if (document.activeElement === area)
        sync(); // such as after a lost connection
      else area.value = read();
    }
    const answer = column.answers[0];
    fill(
      words,
      (answer?.next ?? []).map(({ word, p }) => {
        const bar = h("span", { class: "bar blue" });
        bar.style.width = percent(p);
        return h(
          "button",
          { type: "button", class: "word", onclick: () => accept(word) },
          h("span", {}, word),
          h("span", { class: "value" }, percent(p)),
          h("span", { class: "track", "aria-hidden": "true" }, bar),
        );
      }),
    );
    const nats = column.past.flatMap((record) => record.answers[0]?.nats ?? []);
    score.textContent = nats.length
      ? `${(nats.reduce((a, b) => a + b, 0) / nats.length / Math.LN2).toFixed(2)} bits per token` +
        ` over ${nats.length} tokens: the fewer, the better it predicted what you typed.`
      : "";
  }

  function accept(word) {
    const begun = area.value.match(/[\p{L}\p{N}'’-]*$/u)[0];
    const start = word.toLowerCase().startsWith(begun.toLowerCase())
      ? area.value.length - begun.length
      : area.value.length;
    area.value = `${area.value.slice(0, start)}${word} `;
    area.focus();
    sync();
  }

  return {
    element,
    show,
    reset: () => {
      base = "";
      area.value = "";
    },
  };
}
