// A column of the live view: its input, its answers, its gates, and the controls of its state.

import { anyInput } from "./input_any.js";
import { chatInput } from "./input_chat.js";
import { controlInput } from "./input_control.js";
import { drawInput } from "./input_draw.js";
import { lineInput } from "./input_line.js";
import { pianoInput } from "./input_piano.js";
import { predictForm } from "./input_predict.js";
import { sequencesInput } from "./input_sequences.js";
import { soundInput } from "./input_sound.js";
import { tableInput } from "./input_table.js";
import { tensorInput } from "./input_tensor.js";
import { textInput } from "./input_text.js";
import { videoInput } from "./input_video.js";
import { clearProblem, counted, fill, h, number, perFrame, problem } from "./dom.js";

const INPUTS = {
  text: textInput,
  chat: chatInput,
  handwriting: drawInput,
  speech: soundInput,
  music: pianoInput,
  forecast: tableInput,
  anomaly: tableInput,
  sequences: sequencesInput,
  sentiment: lineInput,
  control: controlInput,
  video: videoInput,
  tensors: tensorInput,
};
/** Whose sessions run in float32 alone. */
const FLOAT32_ONLY = new Set(["handwriting", "video"]);

let views = 0;

export class ColumnView {
  constructor(live, column, about) {
    this.live = live;
    this.column = column;
    this.about = about;
    this.key = `column-${(views += 1)}`;
    this.draw = perFrame(() => this.now());
    column.onchange = () => {
      if (this.box) clearProblem(this.box); // here, not in the frame: a new problem may come before
      this.draw();
    };
    column.onproblem = (error) => {
      problem(this.box, error);
      this.draw(); // a control that was moved shows where the session is
    };
  }

  async start() {
    const { column, about } = this,
      { model } = column;
    this.title = h("h2", { tabindex: "-1" }, model.name);
    this.detail = h("p", { class: "hint" }, describe(about));
    this.box = h("div", { class: "input" });
    this.element = h(
      "section",
      {
        class: "panel column",
        "aria-label": `Session of ${model.name}`,
        onkeydown: (event) => this.escape(event),
      },
      h("header", { class: "row" }, this.title, this.closer()),
      this.detail,
      this.box,
    );
    if (!model.live) {
      this.element.classList.add("full-width");
      this.box.append(predictForm(this.live.client, model));
      return;
    }
    this.input = (INPUTS[model.task] ?? anyInput)(column, about, (error) =>
      problem(this.box, error),
    );
    if (!column.session) {
      column.options = { ...column.options, ...(await this.input.options?.()) };
      await column.open();
    }
    this.box.append(this.input.element);
    this.element.append(this.controls(), column.gates.element);
    this.now();
  }

  /** Escape closes a message, or else stops what runs. */
  escape(event) {
    if (event.key !== "Escape") return;
    if (!clearProblem(this.box)) this.input?.stop?.();
  }

  closer() {
    return h(
      "button",
      {
        class: "ghost icon close",
        type: "button",
        "aria-label": "Close this column",
        hidden: true,
        onclick: () => this.live.remove(this),
      },
      "×",
    );
  }

  controls() {
    const { column } = this,
      { model } = column;
    this.slider = h("input", {
      type: "range",
      min: "0",
      max: "0",
      value: "0",
      id: `${this.key}-time`,
      oninput: () => column.goTo(Number(this.slider.value)),
    });
    this.place = h("output", { class: "hint", for: `${this.key}-time` });
    const name = h("input", {
      type: "text",
      id: `${this.key}-name`,
      placeholder: "name",
      maxlength: "40",
    });
    const saved = h("select", { id: `${this.key}-saved` });
    const compare = h(
      "select",
      { id: `${this.key}-compare` },
      this.choices().map(([label, value]) => h("option", { value }, label)),
    );
    compare.setAttribute("aria-label", "Another model or precision");
    saved.setAttribute("aria-label", "Saved states");
    // Buttons, since the arrow keys already change what a list has chosen.
    const open = (event) => {
      event.preventDefault();
      this.openSaved(saved.value);
    };
    this.saved = h(
      "form",
      { class: "row", hidden: true, onsubmit: open },
      saved,
      h("button", { type: "submit" }, "Open state"),
    );
    const comparing = () => {
      const [other, precision] = JSON.parse(compare.value);
      const found = this.live.models.find((m) => m.name === other);
      if (found) this.live.compare(this, found, precision);
    };
    const form = h(
      "form",
      {
        class: "row save",
        onsubmit: (event) => {
          event.preventDefault();
          if (name.value) this.save(name, saved);
        },
      },
      h("label", { class: "visually-hidden", for: name.id }, "Name of the saved state"),
      name,
      h("button", { type: "submit" }, "Save state"),
    );
    this.listSaved(saved);
    return h(
      "div",
      { class: "state-controls" },
      h(
        "div",
        { class: "row time" },
        h("label", { for: this.slider.id }, "Time"),
        this.slider,
        this.place,
      ),
      h(
        "div",
        { class: "row" },
        h("button", { type: "button", onclick: () => this.live.fork(this) }, "Fork"),
        h(
          "button",
          {
            type: "button",
            onclick: () => {
              this.input.stop?.();
              column.restart();
            },
          },
          "Start again",
        ),
        compare.length
          ? h(
              "span",
              { class: "row" },
              h("button", { type: "button", onclick: comparing }, "Compare with"),
              compare,
            )
          : null,
        form,
        this.saved,
      ),
    );
  }

  choices() {
    const { model, precision } = this.column;
    const offered = FLOAT32_ONLY.has(model.task) ? [] : (model.precisions ?? []);
    const same = offered
      .filter((p) => p !== precision)
      .map((p) => [`${model.name} in ${p}`, JSON.stringify([model.name, p])]);
    const others = this.live.models
      .filter(
        (m) => m.task === model.task && m.name !== model.name && m.live && m.status === "ready",
      )
      .map((m) => [m.name, JSON.stringify([m.name, "float32"])]);
    return [...same, ...others];
  }

  async save(field, saved) {
    await this.column.save(`saved-${field.value.trim().replace(/[^\w.-]+/g, "-")}`);
    field.value = "";
    this.listSaved(saved);
  }

  async listSaved(saved) {
    const { client } = this.live,
      { model } = this.column;
    try {
      const { sessions } = await client._get(
        `/v1/models/${encodeURIComponent(model.name)}/sessions?limit=1000`,
      );
      const names = sessions.map((session) => session.id).filter((id) => id.startsWith("saved-"));
      fill(
        saved,
        names.map((id) => h("option", { value: id }, id.slice("saved-".length))),
      );
      this.saved.hidden = !names.length;
    } catch {
      this.saved.hidden = true;
    }
  }

  async openSaved(id) {
    if (!id) return;
    this.input.stop?.();
    this.input.reset?.();
    await this.column.openSaved(id);
  }

  name(letter, several) {
    const { model, precision } = this.column;
    fill(
      this.title,
      several ? h("span", { class: "letter" }, letter) : null,
      model.name,
      precision === "float32" ? null : h("small", {}, ` ${precision}`),
    );
    this.element.querySelector(".close").hidden = !several;
  }

  refresh() {
    this.draw();
  }

  now() {
    const { column } = this;
    if (!this.input) return;
    this.input.show();
    column.gates.draw();
    this.slider.max = String(column.records.length);
    this.slider.value = String(column.target);
    const at = column.dropped + column.position;
    const total = column.dropped + column.records.length;
    this.place.textContent = `${at.toLocaleString("en")} of ${total.toLocaleString("en")}`;
    this.slider.title = column.dropped
      ? `back to item ${column.dropped.toLocaleString("en")}: older ones are not kept`
      : "";
    this.slider.setAttribute("aria-valuetext", `after ${counted(at, "item")}`);
  }

  end() {
    this.input?.stop?.();
    if (this.column.session) this.column.close();
  }
}

/** What it is, how good it is on its test split, and what is mixed into its answers. */
function describe(about) {
  const layers = about.architecture?.layers ?? [];
  const shape = layers
    .map(
      (l) =>
        `${l.num_layers > 1 ? `${l.num_layers} × ` : ""}${l.hidden_size} ${l.cell.toUpperCase()} units`,
    )
    .join(" + ");
  const other = (about.notes ?? []).map((note) => note.match(/^mixed with (the [^(;,]+)/)?.[1]);
  const mixed = other.find(Boolean);
  return [
    about.summary,
    shape,
    quality(about),
    mixed && `answers mixed with those of ${mixed.trim()}`,
  ]
    .filter(Boolean)
    .join(" · ");
}

function quality({ primary, metrics = {}, baselines = {}, higher_is_better: higher }) {
  if (!(primary in metrics)) return null;
  const [best] = Object.entries(baselines)
    .map(([name, values]) => [name, values[primary]])
    .filter(([, value]) => Number.isFinite(value))
    .sort((a, b) => (higher ? b[1] - a[1] : a[1] - b[1]));
  const against = best ? `, ${best[0]} ${number(best[1])}` : "";
  return `${primary} on its test split ${number(metrics[primary])}${against}`;
}
