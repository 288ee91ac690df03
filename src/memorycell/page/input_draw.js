// A field to write a character in; it is recognised after every point.

import { Picture } from "./canvas.js";
import { ink } from "./colours.js";
import { h } from "./dom.js";
import { labelBars } from "./labels.js";
import { keyboardPen, PEN_KEYS } from "./pen_keys.js";

const SIZE = 260,
  MIN_DISTANCE = 4,
  MAX_WAITING = 400;

export function drawInput(column) {
  const waiting = [];
  let busy = false,
    reading = Promise.resolve(), // ends when nothing waits
    pen = null;
  const bars = h("div", { "aria-live": "polite" });
  const picture = new Picture({
    height: SIZE,
    className: "drawing",
    draw: paint,
    label: "Drawing field: write a character with the mouse or a finger",
  });
  const { canvas } = picture;
  const whole = (place) => place.map(Math.round);
  const field = keyboardPen(canvas, {
    size: () => [canvas.clientWidth, SIZE],
    down: (place) => begin(whole(place)),
    move: (place) => extend(whole(place)),
    up: () => lift(),
  });
  const undo = h(
    "button",
    { type: "button", onclick: () => reading.then(() => column.undo(lastStroke)) },
    "Undo stroke",
  );
  const element = h(
    "div",
    { class: "draw" },
    field,
    h(
      "div",
      { class: "stack" },
      bars,
      h(
        "div",
        { class: "row" },
        h("button", { type: "button", onclick: () => send("") }, "New character"),
        undo,
      ),
      h("p", { class: "hint" }, PEN_KEYS),
    ),
  );

  function send(item) {
    if (waiting.length < MAX_WAITING) waiting.push(item);
    pump();
  }

  function pump() {
    if (!busy && waiting.length) reading = readWaiting();
  }

  async function readWaiting() {
    busy = true;
    while (waiting.length) await column.feed(waiting.splice(0));
    busy = false;
  }

  function begin(point) {
    pen = point;
    send(JSON.stringify(pen));
    picture.draw();
  }

  function extend(point) {
    if (Math.hypot(point[0] - pen[0], point[1] - pen[1]) < MIN_DISTANCE) return;
    pen = point;
    send(JSON.stringify(point));
    picture.draw();
  }

  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [Math.round(event.clientX - box.left), Math.round(event.clientY - box.top)];
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    begin(at(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!pen) return;
    for (const each of event.getCoalescedEvents?.() ?? [event]) extend(at(each));
  });
  const lift = () => {
    if (pen) {
      pen = null;
      send("up");
    }
  };
  canvas.addEventListener("pointerup", lift);
  canvas.addEventListener("pointercancel", lift);

  /** Strokes of the items after the last empty one, those that wait included. */
  function strokes() {
    const result = [[]];
    for (const item of [...column.past.map((record) => record.item), ...waiting]) {
      if (item === "") result.splice(0, result.length, []);
      else if (item === "up") result.push([]);
      else result.at(-1).push(JSON.parse(item));
    }
    return result.filter((stroke) => stroke.length);
  }

  function lastStroke() {
    const items = column.past.map((record) => record.item);
    let k = items.length - 1;
    while (k > 0 && items[k - 1] !== "up" && items[k - 1] !== "") k -= 1;
    return Math.max(k, 0);
  }

  function paint(context, width, height) {
    context.strokeStyle = ink("line");
    context.lineWidth = 1;
    context.setLineDash([4, 5]);
    context.beginPath();
    context.moveTo(10, height * 0.78);
    context.lineTo(width - 10, height * 0.78);
    context.stroke();
    context.setLineDash([]);
    context.strokeStyle = context.fillStyle = ink("ink");
    context.lineWidth = 5;
    context.lineCap = context.lineJoin = "round";
    for (const stroke of strokes()) {
      context.beginPath();
      stroke.forEach(([x, y], k) => (k ? context.lineTo(x, y) : context.moveTo(x, y)));
      if (stroke.length === 1) context.lineTo(stroke[0][0] + 0.1, stroke[0][1]);
      context.stroke();
    }
  }

  function show() {
    picture.draw();
    let k = column.position - 1; // "up" has no answer of its own
    while (k > 0 && column.records[k].item === "up") k -= 1;
    labelBars(bars, column.records[k]?.answers?.[0], "Write a character in the field.");
  }

  return { element, show };
}
