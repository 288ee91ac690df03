// Frames in, the next frame out: moving digits, a drawn shape, or pictures from files. What the
// model predicted for a frame is shown next to the frame that came.

import { Picture } from "./canvas.js";
import { line } from "./chart.js";
import { ink } from "./colours.js";
import { counted, fill, h, number, percent } from "./dom.js";
import {
  brightness,
  characterShape,
  frameOf,
  fromBase64,
  moveBodies,
  shapeSide,
  startBodies,
  toBase64,
} from "./moving.js";
import { keyboardPen, PEN_KEYS } from "./pen_keys.js";

const RAW = "raw:",
  RATES = [2, 5, 10, 25],
  SHOWN = 120,
  FIELD = 112,
  PEN = 9,
  MAX_FILES = 500;

let panels = 0;

export function videoInput(column, about, onproblem) {
  const { height, width, labels = [], alarm = 0 } = about.codec_values;
  const side = shapeSide(height, width),
    key = `video-${(panels += 1)}`;
  let timer = null,
    busy = false,
    files = [],
    drawn = null,
    pen = null;

  const views = labels.length
    ? [["now", "Frame read"]]
    : [
        ["predicted", "Expected"],
        ["now", "Frame read"],
        ["error", "Difference"],
        ["next", "Predicted next"],
      ];
  const canvases = new Map(
    views.map(([name, title]) => [
      name,
      h("canvas", { class: "frame", width, height, role: "img", "aria-label": `${title}: none yet` }),
    ]),
  );
  const screens = h(
    "div",
    { class: "screens" },
    views.map(([name, title]) =>
      h("figure", {}, canvases.get(name), h("figcaption", { class: "hint" }, title)),
    ),
  );
  const surprise = new Picture({ height: 80, label: "No frames yet", draw: paintSurprise });
  const note = h("p", { class: "hint", "aria-live": "polite" });

  const source = h(
    "select",
    { id: `${key}-source`, onchange: () => showSource() },
    [
      ["digits", "Moving characters"],
      ["shape", "A shape you draw"],
      ["files", "Pictures from files"],
      ...(labels.length ? [] : [["itself", "Its own predictions"]]),
    ].map(([value, title]) => h("option", { value }, title)),
  );
  const characters = h("input", {
    type: "text",
    value: "37",
    maxlength: "3",
    id: `${key}-characters`,
    class: "short",
  });
  const field = h("canvas", {
    class: "drawing",
    width: FIELD,
    height: FIELD,
    role: "img",
    "aria-label": "Drawing field: draw the shape that moves with the mouse or a finger",
  });
  const clear = h("button", { type: "button", onclick: () => clearField() }, "Clear");
  const file = h("input", {
    type: "file",
    accept: "image/*",
    multiple: true,
    id: `${key}-files`,
    class: "visually-hidden",
    onchange: () => load([...file.files]),
  });
  const fileState = h("span", { class: "hint" }, "one picture per frame, in the order of their names");
  const parts = {
    digits: h("div", { class: "row" }, h("label", { for: characters.id }, "Characters"), characters),
    shape: h(
      "div",
      { class: "stack" },
      h("div", { class: "row" }, shapeField(), clear),
      h("p", { class: "hint" }, PEN_KEYS),
    ),
    files: h(
      "div",
      { class: "row" },
      file,
      h("label", { class: "file", for: file.id }, "Choose pictures"),
      fileState,
    ),
    itself: h(
      "p",
      { class: "hint" },
      "Each prediction is read as the next frame: what the model imagines.",
    ),
  };
  const rate = h(
    "select",
    { "aria-label": "Frames per second" },
    RATES.map((value) =>
      h("option", { value: String(value), selected: value === 10 }, `${value} frames/s`),
    ),
  );
  const go = h(
    "button",
    { type: "button", class: "primary", onclick: () => (timer ? stop() : start()) },
    "Play",
  );
  const element = h(
    "div",
    { class: "stack" },
    h("div", { class: "row" }, h("label", { for: source.id }, "Frames"), source),
    ...Object.values(parts),
    h(
      "div",
      { class: "row" },
      go,
      h("button", { type: "button", onclick: () => read() }, "One frame"),
      rate,
    ),
    screens,
    labels.length ? null : surprise.canvas,
    note,
  );

  function showSource() {
    for (const [name, part] of Object.entries(parts)) part.hidden = name !== source.value;
  }

  // ---- the next frame ----------------------------------------------------------------------------

  /** {frame, note}: what to read after the last record; the note says how it was made. */
  function nextFrame() {
    const last = column.last?.note;
    if (source.value === "files") {
      if (!files.length) throw new Error("Choose pictures first");
      const index = last?.source === "files" ? last.index + 1 : 0;
      return { frame: files[index % files.length], note: { source: "files", index } };
    }
    if (source.value === "itself") {
      const next = column.answers[0]?.next;
      if (!next) throw new Error("Read some frames first: there is no prediction yet");
      return { frame: fromBase64(next), note: { ...last, source: "itself" } };
    }
    const shapes = source.value === "shape" ? drawnShape() : movingCharacters();
    const same = last?.bodies?.length === shapes.length;
    const bodies = same ? moveBodies(last.bodies) : startBodies(shapes.length);
    return { frame: frameOf(shapes, bodies, side, height, width), note: { bodies } };
  }

  function movingCharacters() {
    const chosen = [...characters.value.replace(/\s/g, "")];
    if (!chosen.length) throw new Error("Type the characters that move, such as 37");
    return chosen.map((character) => characterShape(character, side));
  }

  function drawnShape() {
    if (!drawn) throw new Error("Draw a shape in the field first");
    const small = document.createElement("canvas");
    small.width = small.height = side;
    const context = small.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(field, 0, 0, side, side);
    return [brightness(context, side, side, true)];
  }

  async function read() {
    if (busy) return;
    busy = true;
    try {
      const { frame, note: how } = nextFrame();
      if (!(await column.feed([RAW + toBase64(frame)], { notes: [how] }))) stop();
    } catch (error) {
      stop();
      onproblem(error);
    }
    busy = false;
  }

  function start() {
    go.textContent = "Pause";
    const tick = () => {
      timer = setTimeout(tick, 1000 / Number(rate.value));
      read();
    };
    tick();
  }

  function stop() {
    clearTimeout(timer);
    timer = null;
    go.textContent = "Play";
  }

  // ---- files and drawing -------------------------------------------------------------------------

  async function load(chosen) {
    stop();
    try {
      const sorted = chosen
        .sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }))
        .slice(0, MAX_FILES);
      files = await Promise.all(sorted.map(readPicture));
      fileState.textContent = counted(files.length, "frame");
    } catch (error) {
      onproblem(error);
    }
    file.value = "";
  }

  async function readPicture(one) {
    const bitmap = await createImageBitmap(one).catch(() => {
      throw new Error(`${one.name}: not a picture that this browser reads`);
    });
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, 0, 0, width, height);
    bitmap.close();
    return brightness(context, width, height);
  }

  function clearField() {
    field.getContext("2d").clearRect(0, 0, FIELD, FIELD);
    drawn = null;
  }

  const at = (event) => {
    const box = field.getBoundingClientRect();
    return [
      ((event.clientX - box.left) / box.width) * FIELD,
      ((event.clientY - box.top) / box.height) * FIELD,
    ];
  };
  const stroke = (to) => {
    const context = field.getContext("2d");
    context.strokeStyle = ink("ink");
    context.lineWidth = PEN;
    context.lineCap = "round";
    context.beginPath();
    context.moveTo(...pen);
    context.lineTo(...to);
    context.stroke();
    pen = to;
    drawn = true;
  };
  const begin = (place) => {
    pen = place;
    stroke(pen.map((v) => v + 0.1));
  };

  function shapeField() {
    return keyboardPen(field, {
      size: () => [FIELD, FIELD],
      down: (place) => begin(place),
      move: (place) => stroke(place),
      up: () => {
        pen = null;
      },
    });
  }

  field.addEventListener("pointerdown", (event) => {
    field.setPointerCapture(event.pointerId);
    begin(at(event));
  });
  field.addEventListener("pointermove", (event) => pen && stroke(at(event)));
  for (const name of ["pointerup", "pointercancel"]) {
    field.addEventListener(name, () => {
      pen = null;
    });
  }

  // ---- pictures ----------------------------------------------------------------------------------

  function put(name, bytes, label) {
    const canvas = canvases.get(name);
    if (!canvas) return;
    const context = canvas.getContext("2d");
    canvas.setAttribute("aria-label", label);
    if (!bytes) {
      context.clearRect(0, 0, width, height);
      return;
    }
    const image = context.createImageData(width, height),
      pixels = new Uint32Array(image.data.buffer);
    for (let k = 0; k < pixels.length; k += 1) {
      pixels[k] = 0xff000000 | (bytes[k] * 0x010101);
    }
    context.putImageData(image, 0, 0);
  }

  function show() {
    const { last } = column,
      before = column.records[column.position - 2];
    const frame = last ? fromBase64(last.item.slice(RAW.length)) : null;
    const answer = last?.answers?.[0];
    const expected = before?.answers?.[0]?.next ? fromBase64(before.answers[0].next) : null;
    const at = answer ? ` of frame ${answer.frame}` : "";
    put("now", frame, `Frame read${at}`);
    put("predicted", expected, `Expected for frame ${answer?.frame ?? "…"}`);
    put(
      "error",
      frame && expected && frame.map((value, k) => Math.abs(value - expected[k])),
      "Difference of the frame and its prediction",
    );
    put("next", answer?.next ? fromBase64(answer.next) : null, "Predicted next frame");
    surprise.draw();
    fill(note, describe(answer));
  }

  function describe(answer) {
    if (!answer) return "Play: every frame goes to the model, which predicts the next one.";
    if (answer.label !== undefined) {
      return [h("b", {}, answer.label), ` ${percent(answer.p)} after ${counted(answer.frame, "frame")}`];
    }
    if (answer.surprise === null) return "The first frame: nothing was predicted for it.";
    const text = `Frame ${answer.frame}: surprise ${number(answer.surprise)} (mean squared error)`;
    const limit = alarm ? `, alarm above ${number(alarm)}` : "";
    return [text + limit, answer.alarm ? h("b", { class: "blame" }, " Unusual") : null];
  }

  function paintSurprise(context, w, hgt) {
    const values = column.past.slice(-SHOWN).map((r) => r.answers?.[0]?.surprise ?? NaN);
    const finite = values.filter(Number.isFinite);
    context.fillStyle = ink("muted");
    context.font = `11px ${ink("font")}`;
    context.fillText(alarm ? "Surprise, and the alarm's threshold" : "Surprise", 4, 11);
    const top = 1.1 * Math.max(alarm, ...finite, 1e-9);
    const x = (k) => (k / Math.max(SHOWN - 1, 1)) * w,
      y = (v) => hgt - 4 - (v / top) * (hgt - 22);
    if (alarm) {
      line(
        context,
        [
          [0, y(alarm)],
          [w, y(alarm)],
        ],
        ink("orange"),
        1,
        [5, 4],
      );
    }
    line(
      context,
      values.map((v, k) => [x(k), y(v)]),
      ink("blue"),
      1.8,
    );
    surprise.label = finite.length
      ? `Surprise of the last ${values.length} frames; now ${number(values.at(-1))}`
      : "No surprise yet";
  }

  showSource();
  return { element, show, stop };
}
