// The sheet of a story on one canvas: a column per word; the answers of both networks, and the gates
// and the cell state of the units that matter.

import { Picture } from "./canvas.js";
import { css, ink, level, palette } from "./colours.js";
import { h } from "./dom.js";

export const UNITS = 12;
const UNIT_HEIGHT = 7,
  CURVE_HEIGHT = 62,
  TITLE_HEIGHT = 22,
  WORD_HEIGHT = 104;
const GATES = [
  ["f", "Forget gate f", "1: keeps"],
  ["i", "Input gate i", "1: writes"],
  ["o", "Output gate o", "1: shows"],
  ["c", "Cell state c", "orange −, blue +"],
];
const NARROW = 560;

export class StorySheet {
  constructor(onword, onunit) {
    this.state = null;
    this.height =
      WORD_HEIGHT +
      2 * (CURVE_HEIGHT + TITLE_HEIGHT) +
      GATES.length * (UNITS * UNIT_HEIGHT + TITLE_HEIGHT) +
      4;
    this.picture = new Picture({
      height: this.height,
      className: "sheet",
      label: "Answers and gates at every word",
      draw: (...place) => this.paint(...place),
    });
    this.element = h("div", {}, this.picture.canvas);
    this.picture.canvas.addEventListener("click", (event) => {
      const word = this.wordAt(event.offsetX),
        unit = this.unitAt(event.offsetY);
      if (unit !== undefined) onunit(unit);
      if (word !== undefined) onword(word + 1);
    });
  }

  update(state) {
    this.state = state;
    const { words, records, position } = state;
    const record = records[position - 1];
    this.picture.label = record
      ? `Answers and gates at every word. After ${words[position - 1]}: ${record.answer},` +
        ` probability ${record.p}.`
      : "Answers and gates at every word";
    this.picture.draw();
  }

  choose(unit) {
    if (this.state) this.state.chosen = unit;
    this.picture.draw();
  }

  wordAt(x) {
    const k = Math.floor((x - this.left) / this.step);
    return this.state && k >= 0 && k < this.state.words.length ? k : undefined;
  }

  unitAt(y) {
    for (const { top } of this.bands ?? []) {
      const row = Math.floor((y - top) / UNIT_HEIGHT);
      if (row >= 0 && row < UNITS) return this.state.order[row];
    }
    return undefined;
  }

  paint(context, width) {
    if (!this.state?.words.length) return;
    const { words, position } = this.state;
    this.left = width < NARROW ? 2 : 136;
    this.step = (width - this.left - 14) / words.length;
    this.bands = [];
    this.paintWords(context);
    let y = WORD_HEIGHT;
    y = this.paintCurves(context, y, "LSTM", "lstm");
    y = this.paintCurves(context, y, "Plain RNN", this.state.baseline);
    for (const gate of GATES) y = this.paintGate(context, y, ...gate);
    const x = this.left + position * this.step,
      end = this.left + words.length * this.step;
    context.fillStyle = ink("veil"); // over what was read once and undone
    context.fillRect(x, WORD_HEIGHT, end - x + 14, this.height);
    if (position) {
      context.strokeStyle = ink("ink");
      context.lineWidth = 1.5;
      context.strokeRect(
        x - this.step + 0.5,
        WORD_HEIGHT - 2,
        this.step - 1,
        this.height - WORD_HEIGHT,
      );
    }
  }

  paintWords(context) {
    const { words, position } = this.state;
    const size = Math.max(9.5, Math.min(13, this.step * 0.6));
    words.forEach((word, k) => {
      context.save();
      context.translate(this.left + (k + 0.5) * this.step + 3, WORD_HEIGHT - 8);
      context.rotate(-Math.PI / 3.2);
      context.font = `${k === position - 1 ? "700 " : ""}${size}px ${ink("font")}`;
      context.fillStyle = ink(k === position - 1 ? "ink" : k < position ? "muted" : "faint");
      context.fillText(word.length > 15 ? `${word.slice(0, 14)}…` : word, 0, 0);
      context.restore();
    });
  }

  title(context, y, name, note, height) {
    context.fillStyle = ink("ink");
    context.font = `600 12px ${ink("font")}`;
    const inside = this.left < 50;
    context.fillText(name, 0, inside ? y + 15 : y + TITLE_HEIGHT + 11);
    const end = context.measureText(name).width;
    context.fillStyle = ink("muted");
    context.font = `11px ${ink("font")}`;
    if (inside) context.fillText(note, end + 10, y + 15);
    else context.fillText(note, 0, y + TITLE_HEIGHT + 27);
    return { top: y + TITLE_HEIGHT, end: y + TITLE_HEIGHT + height };
  }

  paintCurves(context, y, name, reader) {
    const { words, records, countries, colour, position } = this.state;
    const { top, end } = this.title(context, y, name, "answer after each word", CURVE_HEIGHT);
    context.strokeStyle = ink("line");
    context.lineWidth = 1;
    for (const share of [0, 0.5, 1]) {
      const level = end - share * (end - top - 6) - 0.5;
      context.beginPath();
      context.moveTo(this.left, level);
      context.lineTo(this.left + words.length * this.step, level);
      context.stroke();
    }
    countries.forEach((country, c) => {
      const name = colour(country, 1);
      const peak = Math.max(...records.map((record) => record.belief[reader][c]));
      if (name === "other" && peak < 0.2) return;
      context.strokeStyle = ink(name);
      context.fillStyle = ink(name);
      context.lineWidth = name === "other" ? 1 : 2.4;
      context.lineJoin = "round";
      context.beginPath();
      records.forEach((record, k) => {
        const x = this.left + (k + 0.5) * this.step;
        const level = end - record.belief[reader][c] * (end - top - 6);
        if (k) context.lineTo(x, level);
        else context.moveTo(x, level);
      });
      context.stroke();
      const now = records[position - 1];
      if (now && name !== "other") {
        context.beginPath();
        context.arc(
          this.left + (position - 0.5) * this.step,
          end - now.belief[reader][c] * (end - top - 6),
          3.5,
          0,
          2 * Math.PI,
        );
        context.fill();
      }
    });
    return end;
  }

  paintGate(context, y, gate, name, note) {
    const { words, records, order, chosen } = this.state;
    const { top, end } = this.title(context, y, name, note, UNITS * UNIT_HEIGHT);
    this.bands.push({ top });
    const signed = gate === "c",
      colours = palette(signed);
    const limit = signed ? Math.max(0.5, ...records.flatMap((r) => r.gates.c.map(Math.abs))) : 1;
    records.forEach((record, k) => {
      for (let row = 0; row < UNITS; row += 1) {
        const value = record.gates[gate][order[row]];
        context.fillStyle = css(colours[level(value, signed ? -limit : 0, limit)]);
        context.fillRect(
          this.left + k * this.step,
          top + row * UNIT_HEIGHT,
          this.step - 1,
          UNIT_HEIGHT - 0.5,
        );
      }
    });
    const row = order.indexOf(chosen);
    if (row >= 0 && row < UNITS) {
      context.fillStyle = ink("accent");
      const x = this.left + words.length * this.step + 3,
        mid = top + (row + 0.5) * UNIT_HEIGHT;
      context.beginPath();
      context.moveTo(x, mid);
      context.lineTo(x + 7, mid - 4.5);
      context.lineTo(x + 7, mid + 4.5);
      context.fill();
    }
    return end;
  }
}
