// Colours that people with colour-vision deficiencies can tell apart: cividis for shares (Nuñez,
// Anderton & Renslow 2018), blue to orange for signed values, Okabe & Ito (2008) for categories.

const CIVIDIS = [
  "#00224e",
  "#123570",
  "#3b496c",
  "#575d6d",
  "#707173",
  "#8a8678",
  "#a59c74",
  "#c3b369",
  "#e1cc55",
  "#fee838",
];
const SIGNED = {
  light: [
    "#8a4200",
    "#c96a12",
    "#eba356",
    "#f6d7b0",
    "#f7f7f5",
    "#bcd9ee",
    "#6fb0dd",
    "#2b7cb8",
    "#0b4a7d",
  ],
  dark: [
    "#ffc27a",
    "#e58e2c",
    "#a85f12",
    "#593612",
    "#1f242e",
    "#16405f",
    "#1f72a8",
    "#4ba6e0",
    "#a6daff",
  ],
};
export const CATEGORIES = ["orange", "blue", "green", "purple"];

const LEVELS = 256;
const tables = new Map();

function channels(hex) {
  return [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16));
}

function table(name, stops) {
  if (!tables.has(name)) {
    const rgba = new Uint32Array(LEVELS),
      bytes = new Uint8Array(rgba.buffer);
    const points = stops.map(channels);
    for (let k = 0; k < LEVELS; k += 1) {
      const at = (k / (LEVELS - 1)) * (points.length - 1);
      const low = Math.min(Math.floor(at), points.length - 2);
      for (let c = 0; c < 3; c += 1) {
        bytes[4 * k + c] = Math.round(
          points[low][c] + (at - low) * (points[low + 1][c] - points[low][c]),
        );
      }
      bytes[4 * k + 3] = 255;
    }
    tables.set(name, rgba);
  }
  return tables.get(name);
}

export function theme() {
  const chosen = document.documentElement.dataset.theme;
  if (chosen) return chosen;
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

/** 256 packed pixels: of shares 0 … 1, or of signed values -1 … 1. */
export function palette(signed) {
  return signed ? table(`signed-${theme()}`, SIGNED[theme()]) : table("cividis", CIVIDIS);
}

export function level(value, low, high) {
  const share = (value - low) / (high - low);
  return share <= 0 ? 0 : share >= 1 ? LEVELS - 1 : (share * (LEVELS - 1) + 0.5) | 0;
}

export function css(pixel) {
  return `rgb(${pixel & 255} ${(pixel >> 8) & 255} ${(pixel >> 16) & 255})`;
}

/** A colour of the style sheet. */
export function ink(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}
