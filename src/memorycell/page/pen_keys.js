// Drawing without a mouse: the arrows move a pen over a canvas, Space or Enter puts it down and
// lifts it.

import { h } from "./dom.js";

const STEP_SHARE = 1 / 32, // of a side of the field; a fourth of it with Shift
  MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
export const PEN_KEYS =
  "With the keyboard: the arrows move the pen, finely with Shift; Space puts it down and lifts it.";

/** The canvas in a field that shows the pen while it has the focus. size() gives [width, height];
 *  down, move and up take a point [x, y] in those units. */
export function keyboardPen(canvas, { size, down, move, up }) {
  const cursor = h("span", { class: "pen", "aria-hidden": "true", hidden: true });
  let at = [0.5, 0.25],
    isDown = false,
    shown = false;
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "application"); // the arrows reach the page, also with a screen reader
  canvas.setAttribute("aria-roledescription", "drawing field");

  function show() {
    cursor.hidden = !shown || document.activeElement !== canvas;
    cursor.style.left = `${100 * at[0]}%`;
    cursor.style.top = `${100 * at[1]}%`;
    cursor.classList.toggle("down", isDown);
  }

  const point = () => size().map((length, k) => at[k] * length);

  function lift() {
    if (isDown) up(point());
    isDown = false;
    show();
  }

  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const direction = MOVES[event.key];
    if (direction) {
      const step = event.shiftKey ? STEP_SHARE / 4 : STEP_SHARE;
      at = at.map((v, k) => Math.min(Math.max(v + step * direction[k], 0), 1));
      if (isDown) move(point());
    } else if (event.key === " " || event.key === "Enter") {
      if (event.repeat) return;
      if (isDown) lift();
      else {
        isDown = true;
        down(point());
      }
    } else return;
    event.preventDefault();
    shown = true;
    show();
  });
  canvas.addEventListener("focus", () => {
    shown = canvas.matches(":focus-visible"); // not after a click
    show();
  });
  canvas.addEventListener("pointerdown", () => {
    shown = false;
    show();
  });
  canvas.addEventListener("blur", lift);
  return h("div", { class: "pen-field" }, canvas, cursor);
}
