// A canvas as wide as its place, sharp on every screen, and drawn again when either changes.

import { h, perFrame } from "./dom.js";

export class Picture {
  /** draw(context, width, height) in CSS pixels. The label says in words what is shown. */
  constructor({ height, label, draw, className = "" }) {
    this.canvas = h("canvas", { class: `picture ${className}`, role: "img", "aria-label": label });
    this.height = height;
    this.paint = draw;
    this.draw = perFrame(() => this.now());
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    addEventListener("themechange", () => this.draw());
  }

  set label(text) {
    this.canvas.setAttribute("aria-label", text);
  }

  now() {
    const { canvas } = this,
      scale = devicePixelRatio || 1;
    const width = canvas.clientWidth,
      height = this.height;
    if (!width) return;
    if (
      canvas.width !== Math.round(width * scale) ||
      canvas.height !== Math.round(height * scale)
    ) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
      canvas.style.height = `${height}px`;
    }
    const context = canvas.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    this.paint(context, width, height);
  }
}
