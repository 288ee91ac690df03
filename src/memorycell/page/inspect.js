// A model from outside: its layers, its training, its metrics with the baselines', its gates.

import { fill, h, problem } from "./dom.js";
import { architecture, facts, gateReport, metrics, training } from "./inspect_report.js";

const MAX_UPLOAD_BYTES = 64e6;
const FORMATS = { onnx: "ONNX", c: "C99" };

export class InspectView {
  constructor(client) {
    this.client = client;
    this.choose = h("select", {
      id: "inspected",
      onchange: () => {
        location.hash = `inspect/${encodeURIComponent(this.choose.value)}`;
      },
    });
    this.file = h("input", {
      type: "file",
      accept: ".safetensors",
      id: "upload",
      class: "visually-hidden",
      onchange: () => this.file.files[0] && this.upload(this.file.files[0]),
    });
    this.place = h("div", { class: "inspection" });
    this.asked = 0; // the latest request wins
    this.element = h(
      "div",
      { class: "inspect" },
      h("h1", {}, "Inspect a model"),
      h(
        "div",
        { class: "row" },
        h("label", { for: "inspected" }, "Model"),
        this.choose,
        this.file,
        h("label", { class: "file", for: "upload" }, "Look into a model file"),
      ),
      this.place,
    );
  }

  async show(name) {
    const asked = (this.asked += 1);
    try {
      const models = (await this.client.models()).filter(
        (model) => model.status === "ready" && model.task !== "story",
      );
      fill(
        this.choose,
        models.map((model) =>
          h("option", { value: model.name, selected: model.name === name }, model.name),
        ),
      );
      const chosen = models.find((model) => model.name === name) ?? models[0];
      if (!chosen) return fill(this.place, h("p", { class: "hint" }, "No model is served yet."));
      if (chosen.name === this.shown) return undefined;
      const about = await this.client.model(chosen.name);
      if (asked === this.asked) await this.open(about, chosen.name);
    } catch (error) {
      problem(this.element, error);
    }
    return undefined;
  }

  async upload(file) {
    this.asked += 1;
    if (file.size > MAX_UPLOAD_BYTES)
      return problem(this.element, `${file.name}: at most ${MAX_UPLOAD_BYTES / 1e6} MB`);
    try {
      const headers = { "Content-Type": "application/octet-stream" };
      const about = await this.client._fetch("/v1/inspect", {
        method: "POST",
        body: file,
        headers,
      });
      return await this.open({ ...about, name: file.name }, null);
    } catch (error) {
      return problem(this.element, `${file.name}: ${error.message.replace(/^the file: /, "")}`);
    } finally {
      this.file.value = "";
    }
  }

  /** served: its name on the server, or null for one that is only described. */
  async open(about, served) {
    this.shown = served;
    const gates = h(
      "section",
      { class: "panel wide" },
      h("h2", {}, "Gates"),
      served
        ? h(
            "div",
            { class: "row" },
            h(
              "button",
              { type: "button", onclick: () => this.measure(served, gates) },
              "Measure them on its own data",
            ),
          )
        : h("p", { class: "hint" }, "A served model also shows its gates."),
    );
    fill(
      this.place,
      this.summary(about, served),
      architecture(about),
      metrics(about),
      training(about),
      gates,
    );
  }

  async measure(name, place) {
    fill(place, h("h2", {}, "Gates"), h("p", { class: "hint" }, "Measuring …"));
    try {
      const { inspection, gates } = await this.client.inspection(name, { input: null });
      if (this.shown === name) fill(place, h("h2", {}, "Gates"), ...gateReport(inspection, gates));
    } catch (error) {
      if (this.shown === name)
        fill(
          place,
          h("h2", {}, "Gates"),
          h("p", { class: "hint" }, `Not measured: ${error.message}`),
        );
    }
  }

  summary(about, served) {
    const { skill, exports = {} } = about;
    const able = Object.keys(exports).filter((format) => exports[format] === null);
    const unable = Object.entries(exports).filter(([, reason]) => reason !== null);
    return h(
      "section",
      { class: "panel wide" },
      h("h2", {}, about.name),
      h("p", {}, about.summary ?? ""),
      h(
        "dl",
        { class: "facts" },
        facts({
          Task: about.task,
          Data: about.data,
          Parameters: about.architecture?.parameters,
          Version: about.version,
          Skill:
            typeof skill === "number"
              ? `${Math.abs(100 * skill).toFixed(1)}% ${skill < 0 ? "worse" : "better"}` +
                ` than the best baseline (${about.primary})`
              : null,
          Exports: able.map((format) => FORMATS[format] ?? format).join(", ") || "none",
        }),
      ),
      h(
        "div",
        { class: "row" },
        (served ? able : []).map((format) =>
          h(
            "button",
            { type: "button", onclick: () => this.export(served, format) },
            `Export to ${FORMATS[format] ?? format}`,
          ),
        ),
      ),
      unable.map(([format, reason]) =>
        h("p", { class: "hint" }, `No ${FORMATS[format] ?? format}: ${reason}`),
      ),
    );
  }

  async export(name, format) {
    try {
      const headers = this.client.token ? { Authorization: `Bearer ${this.client.token}` } : {};
      const reply = await fetch(`/v1/models/${encodeURIComponent(name)}/exports/${format}`, {
        headers,
      });
      if (!reply.ok) throw new Error((await reply.json()).detail);
      const link = h("a", {
        href: URL.createObjectURL(await reply.blob()),
        download: `${name}-${format}.zip`,
      });
      link.click();
      URL.revokeObjectURL(link.href);
    } catch (error) {
      problem(this.element, error);
    }
  }
}
