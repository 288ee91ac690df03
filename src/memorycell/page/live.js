// Live models: choose one, feed it, and compare sessions side by side.

import { Column } from "./column.js";
import { ColumnView } from "./column_view.js";
import { clearProblem, fill, h, percent, problem } from "./dom.js";

const MAX_COLUMNS = 3;
const POLL_MS = 1500;
const TASKS = {
  story: "Story",
  text: "Text",
  chat: "Chat",
  handwriting: "Handwriting",
  speech: "Speech",
  music: "Music",
  forecast: "Forecast",
  anomaly: "Anomalies",
  sequences: "Sequences",
  sentiment: "Sentiment",
  translation: "Translation",
  drawing: "Drawing",
  control: "Control",
  video: "Video",
  tensors: "Tensors",
};

export class LiveView {
  constructor(client) {
    this.client = client;
    this.views = [];
    this.models = [];
    this.list = h("ul", { class: "models" });
    this.place = h("div", { class: "columns" });
    this.mirror = h("input", { type: "checkbox", id: "mirror", checked: true });
    this.mirrorRow = h(
      "p",
      { class: "row mirror", hidden: true },
      this.mirror,
      h("label", { for: "mirror" }, "Every column reads the same input"),
    );
    this.heading = h("h1", { class: "visually-hidden" }, "Live models");
    this.element = h(
      "div",
      { class: "live" },
      this.heading,
      h(
        "aside",
        { class: "panel model-panel", "aria-label": "Models" },
        h("h2", {}, "Models"),
        this.list,
      ),
      (this.workspace = h("div", { class: "workspace" }, this.mirrorRow, this.place)),
    );
    client.onmodel = () => this.refresh();
    addEventListener("connection", ({ detail }) => {
      if (detail === "open") this.refresh();
    });
  }

  async show(name) {
    await this.refresh();
    const { usable } = this;
    const model =
      usable.find((m) => m.name === name) ??
      this.current ??
      usable.find((m) => m.status === "ready" && m.live) ??
      usable[0];
    if (!model) return fill(this.place, noModels());
    clearProblem(this.workspace);
    if (name && model.name !== name)
      problem(this.workspace, `No model “${name}” is served here; this is ${model.name}.`);
    if (model.name !== this.current?.name || !this.views.length) await this.start(model);
    return undefined;
  }

  async refresh() {
    try {
      const [models, demos] = await Promise.all([
        this.client.models(),
        this.client._fetch("/v1/demo"),
      ]);
      this.models = [...models, ...inTraining(models, demos)];
    } catch {
      setTimeout(() => this.refresh(), POLL_MS);
      return;
    }
    this.showList();
    const { usable } = this;
    const current = usable.find((model) => model.name === this.current?.name);
    if (current && this.current.status !== "ready") {
      if (current.status === "ready") this.start(current);
      else this.place.replaceChildren(waiting(current));
    }
    if (usable.some((model) => model.status === "training")) {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => {
        if (this.element.isConnected) this.refresh();
      }, POLL_MS);
    }
  }

  get usable() {
    return this.models.filter((model) => model.task !== "story");
  }

  /** Drawn again only after a change, so that a link keeps the focus. */
  showList() {
    const current = this.current?.name;
    const state = JSON.stringify([current, this.usable.map((m) => [m.name, m.status, m.progress])]);
    if (state === this.listState) return;
    this.listState = state;
    fill(
      this.list,
      this.usable.map((model) => modelRow(model, model.name === current)),
    );
  }

  async start(model) {
    const old = this.views;
    this.views = [];
    old.forEach((view) => view.end());
    this.current = model;
    this.showList();
    if (model.status !== "ready") {
      this.place.replaceChildren(waiting(model));
      return;
    }
    this.place.replaceChildren();
    try {
      this.about = await this.client.model(model.name);
      const column = new Column(this.client, model);
      const view = new ColumnView(this, column, this.about);
      await view.start();
      this.add(view);
    } catch (error) {
      problem(this.place, error);
    }
  }

  add(view) {
    this.views.push(view);
    view.column.onfed = (items, notes) => {
      if (!this.mirror.checked) return;
      for (const other of this.views) {
        if (other !== view && other.column.model.task === view.column.model.task)
          other.column.feed(items, { mirrored: true, notes });
      }
    };
    this.arrange();
  }

  async fork(view) {
    if (this.views.length >= MAX_COLUMNS)
      return problem(this.place, `At most ${MAX_COLUMNS} columns: close one first`);
    return this.join(await view.column.fork(), view.about);
  }

  async compare(view, model, precision) {
    if (this.views.length >= MAX_COLUMNS)
      return problem(this.place, `At most ${MAX_COLUMNS} columns: close one first`);
    try {
      return await this.join(
        await view.column.compare(model, precision),
        await this.client.model(model.name),
      );
    } catch (error) {
      return problem(this.place, error);
    }
  }

  async join(column, about) {
    const view = new ColumnView(this, column, about);
    await view.start();
    this.add(view);
    view.refresh();
    view.element.querySelector("h2").focus();
    return view;
  }

  remove(view) {
    this.views = this.views.filter((other) => other !== view);
    view.end();
    this.arrange();
    this.views[0]?.title.focus(); // the button that had the focus is gone
  }

  arrange() {
    fill(
      this.place,
      this.views.map((view) => view.element),
    );
    this.place.dataset.count = String(this.views.length);
    this.mirrorRow.hidden = this.views.length < 2;
    this.views.forEach((view, k) => view.name("ABC"[k], this.views.length > 1));
  }
}

/** The demonstration models that are not served yet, in the form of the others. */
function inTraining(models, demos) {
  const served = new Set(models.map((model) => model.name));
  return Object.entries(demos)
    .filter(([name]) => !served.has(name))
    .map(([name, { task, summary, state, share, message }]) => ({
      name,
      task,
      summary,
      status: state === "failed" ? "failed" : "training",
      problem: message,
      progress: { done: share, line: message || state },
    }));
}

function modelRow(model, current) {
  const done = model.progress?.done ?? 0;
  const waits = model.progress?.line === "waiting";
  const training = waits ? "waiting" : `training ${percent(done)}`;
  const text = model.status === "training" ? training : "failed";
  const state = model.status === "ready" ? null : h("span", { class: "state" }, text);
  const bar = h("span", { class: "bar blue" });
  bar.style.width = percent(done);
  return h(
    "li",
    {},
    h(
      "a",
      { href: `#live/${encodeURIComponent(model.name)}`, "aria-current": current ? "true" : null },
      h("span", { class: "name" }, model.name),
      h("span", { class: "task" }, TASKS[model.task] ?? model.task),
      state,
      model.status === "training"
        ? h("span", { class: "track", "aria-hidden": "true" }, bar)
        : null,
    ),
  );
}

function waiting(model) {
  const failed = model.status === "failed";
  return h(
    "section",
    { class: "panel" },
    h("h2", {}, model.name),
    h(
      "p",
      { class: failed ? "problem" : "hint" },
      failed
        ? (model.problem ?? model.progress?.line ?? "it could not be trained")
        : `${model.summary}. It is being trained on this machine, once: ${model.progress?.line ?? "waiting"}.`,
    ),
  );
}

function noModels() {
  return h(
    "section",
    { class: "panel" },
    h("h2", {}, "No models are served"),
    h(
      "p",
      { class: "hint" },
      "Start the server with model files, or with --demo, which trains small ones on first use.",
    ),
  );
}
