// The story: one word at a time, forwards and backwards, with the gates of the LSTM and the answers
// of the LSTM and the plain RNN after every word.

import { CATEGORIES } from "./colours.js";
import {
  announce,
  capital,
  clearProblem,
  fill,
  h,
  percent,
  problem,
  reducedMotion,
} from "./dom.js";
import { answerBars, meters, MIN_BELIEF, sentence } from "./story_answers.js";
import { StorySheet, UNITS } from "./story_sheet.js";
import { storyWriter } from "./story_writer.js";

const PLAY_MS = 650;
const HISTORY = 2000; // the words of the longest story

export class StoryView {
  constructor(client) {
    this.client = client;
    this.words = [];
    this.records = [];
    this.position = 0;
    this.goal = 0; // where `position` will be when everything asked for is done
    this.baseline = "rnn";
    this.timer = null;
    this.pending = Promise.resolve();
    this.element = h(
      "div",
      { class: "story" },
      h("p", { class: "loading" }, "Loading the story …"),
    );
  }

  async show() {
    if (this.about || this.starting) return;
    this.starting = true;
    try {
      const model = await this.client.model("story");
      this.about = model.story ?? model;
      this.build();
      await this.tell(this.about.story.split(" "));
    } catch (error) {
      problem(this.element, error);
    } finally {
      this.starting = false;
    }
  }

  build() {
    const { about } = this;
    this.chips = h("ol", { class: "chips", "aria-label": "The words of the story" });
    this.slider = h("input", {
      type: "range",
      min: "0",
      max: "0",
      step: "1",
      "aria-label": "Word of the story",
      oninput: () => this.go(Number(this.slider.value)),
    });
    this.play = h(
      "button",
      { class: "primary", type: "button", onclick: () => this.toggle() },
      "Play",
    );
    this.legend = h("p", { class: "legend", "aria-label": "Colours of the countries" });
    this.sheet = new StorySheet(
      (k) => this.go(k),
      (unit) => this.showUnit(unit),
    );
    this.now = h("h2", { class: "now" });
    this.what = h("p", { class: "what" });
    this.answers = h("div", { class: "answers" });
    this.meters = h("dl", { class: "meters" });
    this.unit = h("p", { class: "hint unit-line" });
    this.unitChoice = h("select", {
      id: "story-unit",
      onchange: () => this.showUnit(Number(this.unitChoice.value)),
    });
    const long = about.readers.find((reader) => reader.name === "rnn_long");
    const short = about.readers.find((reader) => reader.name === "rnn");
    this.choice = h(
      "select",
      {
        id: "baseline",
        onchange: () => {
          this.baseline = this.choice.value;
          this.draw();
        },
      },
      h("option", { value: "rnn" }, `${short.updates.toLocaleString("en")} updates, as the LSTM`),
      h("option", { value: "rnn_long" }, `${long.updates.toLocaleString("en")} updates`),
    );
    fill(
      this.element,
      h(
        "section",
        { class: "lead" },
        h("h1", {}, "See an LSTM remember and forget"),
        h(
          "p",
          { class: "intro" },
          "The peacock lives in India, the panda and the red-crowned crane in China. Step" +
            " through the story and watch the forget gate drop the peacock when the panda arrives." +
            " China never followed India in training.",
        ),
        this.chips,
        h(
          "div",
          { class: "controls" },
          button("|◀", "First word", () => this.go(0)),
          button("◀", "One word back", () => this.go(this.goal - 1)),
          this.play,
          button("▶", "One word forward", () => this.go(this.goal + 1)),
          button("▶|", "Last word", () => this.go(this.words.length)),
          this.slider,
        ),
      ),
      h(
        "div",
        { class: "story-columns" },
        h(
          "section",
          { class: "panel sheet-panel", "aria-label": "Gates at every word" },
          this.legend,
          this.sheet.element,
          h(
            "div",
            { class: "row unit-choice" },
            h("label", { for: "story-unit" }, "Unit"),
            this.unitChoice,
            this.unit,
          ),
        ),
        h(
          "section",
          { class: "panel now-panel", "aria-label": "At this word" },
          this.now,
          this.what,
          this.meters,
          h("h3", {}, "So this country is …"),
          this.answers,
          h("label", { class: "field", for: "baseline" }, "Plain RNN after"),
          this.choice,
        ),
      ),
      storyWriter(about, (words) => this.tell(words)),
    );
    this.element.addEventListener("keydown", (event) => this.key(event));
  }

  key(event) {
    if (event.target.matches("input, select, textarea")) return;
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (move) {
      event.preventDefault();
      this.go(this.goal + move);
    }
  }

  /** Start again with other words: read them all, and show the last. They are read by a session of
   *  their own: if it refuses them, the story before stays, at its place. */
  tell(words) {
    this.stop();
    return this.inOrder(async () => {
      const { session, records } = await this.read(words);
      this.session?.close().catch(() => {});
      this.adopt(session);
      this.words = words;
      this.records = records;
      this.position = this.goal = words.length;
      this.slider.max = String(words.length);
      this.rank();
      this.draw();
    });
  }

  /** Read forwards, or rewind the session, to a number of words. */
  go(target) {
    const goal = Math.max(0, Math.min(target, this.words.length));
    this.goal = goal;
    this.slider.value = String(goal);
    return this.inOrder(async () => {
      if (goal !== this.goal || goal === this.position) return; // a later request has replaced it
      if (goal < this.position) {
        await this.session.rewind(this.position - goal);
      } else {
        const { answers } = await this.session.feedMany(this.words.slice(this.position, goal));
        answers.flat().forEach((record, k) => {
          this.records[this.position + k] = record;
        });
      }
      this.position = goal;
      this.draw();
      this.say();
    });
  }

  /** One request after the other. A session that is gone, such as after a restart of the server, is
   *  opened again first. */
  inOrder(work) {
    this.pending = this.pending.then(async () => {
      try {
        try {
          await work();
        } catch (error) {
          if (!this.session?.ended) throw error;
          await this.reopen();
          await work();
        }
        clearProblem(this.element);
      } catch (error) {
        this.stop();
        this.goal = this.position;
        this.slider.value = String(this.goal);
        problem(this.element, error);
      }
    });
    return this.pending;
  }

  async reopen() {
    if (!this.session.ended) return;
    const { session } = await this.read(this.words.slice(0, this.position));
    this.adopt(session);
  }

  /** A new session that has read some words. */
  async read(words) {
    const session = await this.client.open("story", { history: HISTORY });
    try {
      const { answers } = words.length ? await session.feedMany(words) : { answers: [] };
      return { session, records: answers.flat() };
    } catch (error) {
      session.close().catch(() => {});
      throw error;
    }
  }

  adopt(session) {
    if (this.session) this.session.onclosed = () => {};
    this.session = session;
    session.onclosed = () => this.inOrder(() => this.reopen());
  }

  toggle() {
    if (this.timer) return this.stop();
    this.play.textContent = "Pause";
    const moved = this.pending; // the slider may have been used just before
    const start = moved.then(() => (this.position >= this.words.length ? this.go(0) : undefined));
    const next = async () => {
      await this.go(this.position + 1);
      if (!this.timer) return;
      if (this.position >= this.words.length) this.stop();
      else this.timer = setTimeout(next, PLAY_MS);
    };
    this.timer = setTimeout(() => start.then(next), reducedMotion() ? 0 : 150);
    return undefined;
  }

  stop() {
    clearTimeout(this.timer);
    this.timer = null;
    if (this.play) this.play.textContent = "Play";
  }

  /** Colours of the countries in the order of their animals; the units that matter. */
  rank() {
    this.colours = new Map();
    for (const word of this.words) {
      const country = this.about.countries.find((c) => this.about.animals[c].includes(word));
      if (country && !this.colours.has(country) && this.colours.size < CATEGORIES.length) {
        this.colours.set(country, CATEGORIES[this.colours.size]);
      }
    }
    fill(
      this.legend,
      [...this.colours].map(([country, colour]) =>
        h("span", { class: `key ${colour}` }, capital(country)),
      ),
      h("span", { class: "key other" }, "another country"),
    );
    const units = this.records[0]?.evidence.length ?? 0;
    const weight = Array.from({ length: units }, (_, u) =>
      this.records.reduce((sum, record) => sum + Math.abs(record.evidence[u]), 0),
    );
    this.order = weight
      .map((w, u) => [w, u])
      .sort((a, b) => b[0] - a[0])
      .map(([, u]) => u);
    this.chosen = this.order[0];
    fill(
      this.unitChoice,
      this.order.slice(0, UNITS).map((u) => h("option", { value: String(u) }, String(u + 1))),
    );
  }

  colour(country, p) {
    return p >= MIN_BELIEF ? (this.colours.get(country) ?? "other") : "none";
  }

  draw() {
    this.slider.value = String(this.goal);
    this.slider.setAttribute(
      "aria-valuetext",
      this.position
        ? `${this.position} of ${this.words.length}: ${this.words[this.position - 1]}`
        : "before the first word",
    );
    this.drawChips();
    this.drawNow();
    this.sheet.update({
      words: this.words,
      records: this.records,
      position: this.position,
      order: this.order,
      countries: this.about.countries,
      colour: (c, p) => this.colour(c, p),
      baseline: this.baseline,
      chosen: this.chosen,
    });
    this.showUnit(this.chosen);
  }

  /** The buttons stay while the words stay, so that one keeps the focus. */
  drawChips() {
    if (this.chipWords !== this.words) {
      this.chipWords = this.words;
      fill(
        this.chips,
        this.words.map((word, k) => {
          const chip = h("button", { type: "button", onclick: () => this.go(k + 1) }, word);
          return h("li", {}, chip);
        }),
      );
    }
    this.chips.querySelectorAll("button").forEach((chip, k) => {
      const record = k < this.position ? this.records[k] : null;
      chip.className = `chip ${record ? this.colour(record.answer, record.p) : "future"}`;
      const answer = record ? `, answer ${record.answer} ${percent(record.p)}` : "";
      chip.setAttribute("aria-label", this.words[k] + answer);
      if (k === this.position - 1) chip.setAttribute("aria-current", "step");
      else chip.removeAttribute("aria-current");
    });
  }

  drawNow() {
    const record = this.position ? this.records[this.position - 1] : null;
    this.now.textContent = record ? `After “${record.word}”` : "Before the first word";
    this.what.textContent = sentence(this.records.slice(0, this.position), this.colours);
    fill(this.meters, meters(record));
    const readers = [
      ["lstm", "LSTM"],
      [this.baseline, "Plain RNN"],
    ];
    const { countries } = this.about;
    fill(
      this.answers,
      readers.map(([name, title]) =>
        answerBars(record?.belief[name], { title, countries, colours: this.colours }),
      ),
    );
  }

  showUnit(unit) {
    if (unit === undefined) return;
    this.chosen = unit;
    const record = this.position ? this.records[this.position - 1] : null;
    const value = (gate) => (record ? record.gates[gate][unit].toFixed(2) : "–");
    this.unitChoice.value = String(unit);
    fill(
      this.unit,
      `f ${value("f")} · i ${value("i")} · g ${value("g")} · o ${value("o")} · c ${value("c")}` +
        ` · h ${value("h")}`,
    );
    this.sheet.choose(unit);
  }

  say() {
    const record = this.position ? this.records[this.position - 1] : null;
    if (record && !this.timer) {
      announce(
        `After ${record.word}: ${record.answer} ${percent(record.p)};` +
          ` ${percent(record.dropped)} forgotten, ${percent(record.written)} written`,
      );
    }
  }
}

function button(text, label, onclick) {
  return h("button", { class: "ghost icon", type: "button", "aria-label": label, onclick }, text);
}
