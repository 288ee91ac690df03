// What was read, and what was answered: a forecast with its interval, or scores with their threshold.

import { Picture } from "./canvas.js";
import { ink } from "./colours.js";
import { h, number } from "./dom.js";

const SHOWN = 150,
  HEIGHT = 220,
  LEFT = 46,
  BOTTOM = 20;

export class Chart {
  constructor(task) {
    this.task = task;
    this.records = [];
    this.target = null;
    this.choose = h("select", {
      "aria-label": "Target",
      hidden: true,
      onchange: () => {
        this.target = this.choose.value;
        this.picture.draw();
      },
    });
    this.picture = new Picture({
      height: HEIGHT,
      label: "No rows yet",
      draw: (...place) => this.paint(...place),
    });
    this.note = h("p", { class: "hint" });
    this.element = h("div", { hidden: true }, this.choose, this.picture.canvas, this.note);
  }

  show(past) {
    this.records = past.slice(-SHOWN);
    const last = this.records.at(-1)?.answers?.[0];
    this.element.hidden = !last || (!last.forecast && !("score" in last) && !("settling" in last));
    if (this.element.hidden) return;
    if (last.forecast && !this.target) {
      const names = Object.keys(last.forecast);
      [this.target] = names;
      this.choose.replaceChildren(...names.map((name) => h("option", { value: name }, name)));
      this.choose.hidden = names.length < 2;
    }
    this.describe(last);
    this.picture.draw();
  }

  describe(last) {
    if (last.forecast) {
      const { median, low80, high80 } = last.forecast[this.target],
        end = median.length - 1;
      this.note.textContent =
        `${last.time}: in ${end + 1} steps ${number(median[end])} (${number(low80[end])} to` +
        ` ${number(high80[end])} with probability 80%)`;
    } else if ("settling" in last) {
      this.note.textContent = `${last.time}: ${last.settling} more rows until the level is known`;
    } else {
      this.note.textContent = `${last.time}: score ${number(last.score)}, threshold ${number(last.threshold)}`;
    }
    this.picture.label = this.note.textContent;
  }

  paint(context, width, height) {
    const last = this.records.at(-1)?.answers?.[0];
    if (!last) return;
    if (last.forecast) this.paintForecast(context, width, height, last.forecast[this.target]);
    else this.paintScores(context, width, height);
  }

  paintForecast(context, width, height, forecast) {
    const past = this.records.map((record) => Number(record.item[this.target]));
    const ahead = forecast.median.length,
      total = past.length + ahead;
    const scale = axes(context, width, height, total, [
      ...past,
      ...forecast.low80,
      ...forecast.high80,
    ]);
    const start = past.length - 1;
    context.fillStyle = ink("blue-soft");
    context.beginPath();
    context.moveTo(scale.x(start), scale.y(past[start]));
    forecast.high80.forEach((v, k) => context.lineTo(scale.x(start + 1 + k), scale.y(v)));
    [...forecast.low80]
      .reverse()
      .forEach((v, k) => context.lineTo(scale.x(start + ahead - k), scale.y(v)));
    context.fill();
    line(
      context,
      past.map((v, k) => [scale.x(k), scale.y(v)]),
      ink("ink"),
      1.8,
    );
    const median = forecast.median.map((v, k) => [scale.x(start + 1 + k), scale.y(v)]);
    line(context, [[scale.x(start), scale.y(past[start])], ...median], ink("blue"), 2.4);
    context.fillStyle = ink("muted");
    context.fillText("now", scale.x(start) - 10, height - 5);
    context.strokeStyle = ink("line");
    context.setLineDash([3, 4]);
    context.beginPath();
    context.moveTo(scale.x(start), 6);
    context.lineTo(scale.x(start), height - BOTTOM);
    context.stroke();
    context.setLineDash([]);
  }

  paintScores(context, width, height) {
    const answers = this.records.map((record) => record.answers[0] ?? {});
    const scores = answers.map((a) => a.score ?? NaN),
      limits = answers.map((a) => a.threshold ?? NaN);
    const scale = axes(
      context,
      width,
      height,
      answers.length,
      [0, ...scores, ...limits].filter(Number.isFinite),
    );
    line(
      context,
      limits.map((v, k) => [scale.x(k), scale.y(v)]),
      ink("muted"),
      1,
      [5, 4],
    );
    line(
      context,
      scores.map((v, k) => [scale.x(k), scale.y(v)]),
      ink("blue"),
      1.8,
    );
    context.fillStyle = ink("orange");
    answers.forEach((answer, k) => {
      if (!answer.anomaly) return;
      context.beginPath();
      context.arc(scale.x(k), scale.y(answer.score), 4, 0, 2 * Math.PI);
      context.fill();
    });
  }
}

/** Horizontal lines with numbers; x of a step and y of a value. */
export function axes(context, width, height, steps, values) {
  const finite = values.filter(Number.isFinite);
  let low = Math.min(...finite),
    high = Math.max(...finite);
  if (!(high > low)) {
    low -= 1;
    high += 1;
  }
  const pad = 0.06 * (high - low);
  const y = (value) => 6 + ((high + pad - value) / (high - low + 2 * pad)) * (height - BOTTOM - 6);
  const x = (step) => LEFT + (step / Math.max(steps - 1, 1)) * (width - LEFT - 6);
  context.font = `11px ${ink("font")}`;
  context.lineWidth = 1;
  const size = niceStep((high - low) / 3);
  for (let value = Math.ceil(low / size) * size; value <= high; value += size) {
    context.strokeStyle = ink("line");
    context.beginPath();
    context.moveTo(LEFT, Math.round(y(value)) + 0.5);
    context.lineTo(width - 6, Math.round(y(value)) + 0.5);
    context.stroke();
    context.fillStyle = ink("muted");
    context.fillText(number(+value.toPrecision(6)), 2, y(value) + 4);
  }
  return { x, y };
}

function niceStep(size) {
  const power = 10 ** Math.floor(Math.log10(size));
  return power * [1, 2, 5, 10].find((k) => k * power >= size);
}

export function line(context, points, colour, width, dash = []) {
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.lineJoin = "round";
  context.setLineDash(dash);
  context.beginPath();
  let pen = false;
  for (const [x, y] of points) {
    if (!Number.isFinite(y)) {
      pen = false;
      continue;
    }
    if (pen) context.lineTo(x, y);
    else context.moveTo(x, y);
    pen = true;
  }
  context.stroke();
  context.setLineDash([]);
}
