// A policy that acts: the page simulates the environment, the session on the server chooses every
// action from what it may see.

import { Picture } from "./canvas.js";
import { line } from "./chart.js";
import { ink } from "./colours.js";
import { fill, h, number, percent } from "./dom.js";
import { anyInput } from "./input_any.js";
import { worldOf } from "./worlds.js";

const RESET = "reset",
  SHOWN = 200,
  HEIGHT = 210,
  SPEEDS = [
    ["slow motion", 0.2],
    ["real time", 1],
    ["as fast as possible", Infinity],
  ];

export function controlInput(column, about) {
  const { environment = "", hidden = [], choices = [] } = about.codec_values;
  const name = environment.split(":").at(-1),
    world = worldOf(name);
  if (!world) return observationInput(column, about, name);
  const { gap = 100, max_steps: limit } = about.settings ?? {};
  const maxSteps = world.maxSteps ?? limit ?? Infinity;
  const seen = world.names.map((_, k) => k).filter((k) => !hidden.includes(k));
  let timer = null,
    busy = false,
    push = 0,
    finished = [];

  const stage = new Picture({ height: HEIGHT, className: "stage", label: name, draw: paint });
  const chart = new Picture({ height: 80, label: "No actions yet", draw: paintActions });
  const values = h("ul", { class: "observation", "aria-label": "Observation, and what the policy does not see of it" });
  const note = h("p", { class: "hint", "aria-live": "off" });
  const speed = h(
    "select",
    { "aria-label": "Speed" },
    SPEEDS.map(([title, value]) =>
      h("option", { value: String(value), selected: value === 1 }, title),
    ),
  );
  const go = h(
    "button",
    { type: "button", class: "primary", onclick: () => (timer ? stop() : start()) },
    "Run",
  );
  const sign = h(
    "select",
    { "aria-label": "Sign of the next episode" },
    [
      ["", "sign: random"],
      ["0", "sign: left"],
      ["1", "sign: right"],
    ].map(([value, title]) => h("option", { value }, title)),
  );
  const shove = (side) => () => {
    push = side;
    if (!timer) read();
  };
  const element = h(
    "div",
    { class: "stack" },
    stage.canvas,
    h(
      "div",
      { class: "row" },
      go,
      h("button", { type: "button", onclick: () => read() }, "One step"),
      speed,
      world === worldOf("t-maze") ? sign : null,
    ),
    world.pushed
      ? h(
          "div",
          { class: "row" },
          h("button", { type: "button", onclick: shove(-1) }, "← Push it"),
          h("button", { type: "button", onclick: shove(1) }, "Push it →"),
        )
      : null,
    values,
    chart.canvas,
    note,
    h(
      "p",
      { class: "hint" },
      `${name} is simulated by the page with the equations of ` +
        `${name === "t-maze" ? "memorycell" : "gymnasium"}; every action comes from the session.`,
    ),
  );

  /** The episode of the last record that has one: {world, steps, total, over}. */
  function episode() {
    for (let k = column.position - 1; k >= 0 && k >= column.position - 2; k -= 1) {
      if (column.records[k].note) return column.records[k].note;
    }
    return null;
  }

  /** The next item and its note. */
  function next() {
    const now = episode(),
      action = column.answers[0]?.action;
    if (!now || now.over || action === undefined) {
      const side = sign.value === "" ? null : Number(sign.value);
      return observed({ world: world.start({ gap, side }), steps: 0, total: 0 });
    }
    let before = now.world;
    if (push) {
      before = world.pushed(before, push);
      push = 0;
    }
    const stepped = world.step(before, action);
    const steps = now.steps + 1,
      over = stepped.done || steps >= maxSteps;
    const after = { world: stepped.world, steps, total: now.total + stepped.reward, over };
    return over ? [RESET, after] : observed(after);
  }

  function observed(after) {
    const all = world.observe(after.world);
    return [JSON.stringify(seen.map((k) => all[k])), after];
  }

  async function read() {
    if (busy) return;
    busy = true;
    const [item, after] = next();
    if (!(await column.feed([item], { notes: [after] }))) stop();
    else if (after.over) finished = [...finished.slice(-9), after.total];
    busy = false;
  }

  function start() {
    go.textContent = "Pause";
    const tick = async () => {
      const from = performance.now();
      await read();
      if (!timer) return;
      const left = world.tickMs / Number(speed.value) - (performance.now() - from);
      timer = setTimeout(tick, Math.max(0, left));
    };
    timer = setTimeout(tick, 0);
  }

  function stop() {
    clearTimeout(timer);
    timer = null;
    go.textContent = "Run";
  }

  function show() {
    const now = episode(),
      answer = column.answers[0];
    stage.draw();
    chart.draw();
    const all = now ? world.observe(now.world) : [];
    fill(
      values,
      world.names.map((title, k) =>
        h(
          "li",
          { class: hidden.includes(k) ? "not-seen" : "" },
          h("span", {}, title),
          h("b", {}, hidden.includes(k) ? "hidden" : number(all[k] ?? NaN)),
        ),
      ),
    );
    if (!now) {
      note.textContent = "Run: the policy sees each observation and answers with an action.";
      return;
    }
    const score = `Step ${now.steps}, return ${number(now.total)}`;
    const p = typeof answer?.p === "number" ? ` with probability ${percent(answer.p)}` : "";
    const end = now.over
      ? "The episode has ended. "
      : answer
        ? `It ${world === worldOf("t-maze") ? "" : "chooses: "}${world.says(answer.action)}${p}. `
        : "";
    const mean = finished.reduce((a, b) => a + b, 0) / finished.length;
    note.textContent =
      `${end}${score}.` +
      (finished.length ? ` Mean return of ${finished.length} episodes here: ${number(mean)}.` : "");
    stage.label = `${name}: ${note.textContent}`;
  }

  function paint(context, width, height) {
    const now = episode();
    const shown = now ? now.world : world.start({ gap, side: 1 });
    world.draw(context, width, height, shown, now?.over ? undefined : column.answers[0]?.action);
  }

  /** Of two choices the probability of the second; of numbers the action. */
  function paintActions(context, width, height) {
    const two = choices.length === 1 && choices[0] === 2;
    const actions = column.past.slice(-SHOWN).map(({ answers: [answer] = [] }) => {
      if (!answer) return NaN;
      if (!two) return Number(answer.action);
      return answer.action === 1 ? answer.p : 1 - answer.p;
    });
    const finite = actions.filter(Number.isFinite);
    const top = two ? 1 : Math.max(2, ...finite.map(Math.abs)),
      bottom = two ? 0 : -top;
    const y = (v) => height - 6 - ((v - bottom) / (top - bottom)) * (height - 26);
    line(
      context,
      [
        [0, y((top + bottom) / 2)],
        [width, y((top + bottom) / 2)],
      ],
      ink("line"),
      1,
    );
    line(
      context,
      actions.map((v, k) => [(k / (SHOWN - 1)) * width, y(v)]),
      ink("blue"),
      1.8,
    );
    const what = two ? `Probability of “${world.says(1)}”` : "Action";
    context.fillStyle = ink("muted");
    context.font = `11px ${ink("font")}`;
    context.fillText(what, 4, 12);
    chart.label = finite.length
      ? `${what} over the last ${actions.length} items; now ${number(finite.at(-1))}`
      : "No actions yet";
  }

  return { element, show, stop };
}

/** Another environment: its observations by hand. */
function observationInput(column, about, name) {
  const { names = [] } = about.codec_values;
  const example = `[${names.map(() => "0").join(", ")}]`;
  const input = anyInput(column, { ...about, reads: `observation, such as ${example}` });
  const text = name
    ? `The page cannot simulate ${name}: send its observations (${names.join(", ")}) yourself.`
    : `Send the observations (${names.join(", ")}) yourself.`;
  return { ...input, element: h("div", { class: "stack" }, h("p", { class: "hint" }, text), input.element) };
}
