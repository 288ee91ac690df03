// Elements without strings of HTML: every text becomes a text node.

/** h("button", {class: "x", onclick: f, "aria-label": "y"}, "text", child, …). */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name in element && typeof value !== "string") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export function fill(element, ...children) {
  element.replaceChildren(...children.flat().filter((c) => c !== null && c !== undefined));
  return element;
}

/** Read aloud by a screen reader. */
export function announce(text) {
  document.getElementById("announce").textContent = text;
}

export function percent(share) {
  return `${Math.round(100 * share)}%`;
}

export function number(value) {
  if (typeof value !== "number") return String(value);
  if (!Number.isFinite(value)) return "–";
  if (Number.isInteger(value) || Math.abs(value) >= 1000)
    return Math.round(value).toLocaleString("en");
  return Math.abs(value) >= 100 ? value.toFixed(1) : String(+value.toPrecision(3));
}

/** "1 row", "2 rows", "1,200 rows"; unit: in the singular. */
export function counted(count, unit) {
  return `${count.toLocaleString("en")} ${unit}${count === 1 ? "" : "s"}`;
}

export function capital(word) {
  return word.charAt(0).toUpperCase() + word.slice(1);
}

export const reducedMotion = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** At most one call of draw per frame of the screen. */
export function perFrame(draw) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      draw();
    });
  };
}

/** A message in a box that people can read and close. */
export function problem(place, error) {
  const text = error instanceof Error ? error.message : String(error);
  const box = h(
    "p",
    { class: "problem", role: "alert" },
    text,
    h(
      "button",
      {
        class: "ghost icon",
        type: "button",
        "aria-label": "Close this message",
        onclick: () => box.remove(),
      },
      "×",
    ),
  );
  place.querySelector(":scope > .problem")?.remove();
  place.prepend(box);
  return box;
}

/** Whether there was one. */
export function clearProblem(place) {
  const box = place.querySelector(":scope > .problem");
  box?.remove();
  return Boolean(box);
}
