// Rows of sequences played through: the answer after every row, as lines over the sequence so far,
// and the step from which on the model was sure.

import { Picture } from "./canvas.js";
import { axes, line } from "./chart.js";
import { CATEGORIES, ink } from "./colours.js";
import { counted, fill, h, number, percent } from "./dom.js";
import { tableInput } from "./input_table.js";

const MAX_LINES = 4,
  HEIGHT = 190;

export function sequencesInput(column, about, onproblem) {
  const { sequence = null } = about.codec_values;
  const table = tableInput(column, about, onproblem);
  const picture = new Picture({ height: HEIGHT, label: "No rows yet", draw: paint });
  const legend = h("p", { class: "hint legend" });
  const verdict = h("p", { class: "verdict", "aria-live": "polite" });
  const end = h("button", { type: "button", onclick: () => column.feed([ending()]) }, "End sequence");
  const box = h("div", { class: "stack", hidden: true }, verdict, picture.canvas, legend);
  table.element.querySelector(".row").append(end);
  table.element.append(box);
  let current = [],
    names = [];

  /** {"end": true} of the sequence that was read last. */
  function ending() {
    const name = sequence && column.answers[0]?.[sequence];
    return { end: true, ...(name === undefined || name === null ? {} : { [sequence]: name }) };
  }

  /** The answers to the rows of the last sequence, its end included. */
  function ofLastSequence() {
    const answers = column.past.map((record) => record.answers?.[0]).filter(Boolean);
    const last = answers.at(-1);
    if (!last) return [];
    const name = sequence ? last[sequence] : undefined;
    const own = sequence ? answers.filter((answer) => answer[sequence] === name) : answers;
    const before = own.slice(0, -1).findLastIndex((answer) => answer.end);
    return own.slice(before + 1);
  }

  function show() {
    table.show();
    current = ofLastSequence();
    const last = current.at(-1);
    box.hidden = !last;
    end.disabled = !last || Boolean(last.end);
    if (!last) return;
    names = lines(last);
    fill(
      legend,
      names.map((name, k) => h("span", { class: `key ${CATEGORIES[k]}` }, name)),
    );
    fill(verdict, describe(last));
    picture.label = `${verdict.textContent} Lines: ${names.join(", ")} over ${counted(current.length, "row")}.`;
    picture.draw();
  }

  /** The names of the lines: classes by their largest probability so far, or numbers. */
  function lines(last) {
    if (last.probabilities) {
      const most = (name) => Math.max(...current.map((answer) => answer.probabilities?.[name] ?? 0));
      return Object.keys(last.probabilities)
        .map((name) => [name, most(name)])
        .sort((a, b) => b[1] - a[1])
        .slice(0, MAX_LINES)
        .map(([name]) => name);
    }
    return last.numbers ? Object.keys(last.numbers).slice(0, MAX_LINES) : ["probability"];
  }

  const valueOf = (answer, name) =>
    answer.probabilities?.[name] ?? answer.numbers?.[name]?.median ?? answer.p ?? NaN;

  function describe(last) {
    const of = sequence && last[sequence] !== undefined ? `${sequence} ${last[sequence]}, ` : "";
    const place = last.end ? `${of}ended after ${counted(last.step, "row")}: ` : `${of}row ${last.step}: `;
    if (last.numbers) {
      const texts = Object.entries(last.numbers).map(
        ([name, { median, low80, high80 }]) =>
          `${name} ${number(median)} (${number(low80)} to ${number(high80)} with probability 80%)`,
      );
      return place + texts.join("; ");
    }
    const label = last.labels ? last.labels.join(", ") || "none of the labels" : last.label;
    const p = last.labels ? "" : `, ${percent(last.p)}`;
    const first = current.find((answer) => answer.sure);
    const since = last.end ? last.sure_after : first?.step;
    const sure = since ? `Sure since row ${since}.` : "sure" in last ? "Not sure yet: that is above a threshold of its own." : "";
    return [place, h("b", {}, label), p, sure ? h("span", { class: "sure" }, ` ${sure}`) : null];
  }

  function paint(context, width, height) {
    const values = names.map((name) => current.map((answer) => valueOf(answer, name)));
    const shares = !current.at(-1)?.numbers;
    const scale = axes(
      context,
      width,
      height,
      current.length,
      shares ? [0, 1] : values.flat(),
    );
    const first = current.findIndex((answer) => answer.sure);
    if (first >= 0) {
      context.strokeStyle = ink("muted");
      context.lineWidth = 1;
      context.setLineDash([3, 4]);
      context.beginPath();
      context.moveTo(scale.x(first), 6);
      context.lineTo(scale.x(first), height - 20);
      context.stroke();
      context.setLineDash([]);
      context.fillStyle = ink("muted");
      context.fillText("sure", Math.min(scale.x(first) + 4, width - 30), 16);
    }
    values.forEach((row, k) =>
      line(
        context,
        row.map((v, t) => [scale.x(t), scale.y(v)]),
        ink(CATEGORIES[k]),
        k ? 1.8 : 2.4,
      ),
    );
    context.fillStyle = ink("muted");
    context.fillText("rows →", width - 46, height - 5);
  }

  return { ...table, show };
}
