// Frames of shapes that move and bounce, as in the moving digits that models are trained on
// (Srivastava, Mansimov & Salakhutdinov 2015, section 4.1), but with digits of the browser's font
// or a shape that was drawn.

const SHAPE_SHARE = 28 / 64, // of a side of the frame
  STEP = 0.1; // per frame, as a share of the range of positions

/** The side of a shape for frames of a height and width, in pixels. */
export function shapeSide(height, width) {
  return Math.max(1, Math.round(Math.min(height, width) * SHAPE_SHARE));
}

/** A character as brightness 0 … 255, side × side. */
export function characterShape(character, side) {
  const canvas = Object.assign(document.createElement("canvas"), { width: side, height: side });
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.font = `bold ${side}px sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "alphabetic";
  const { actualBoundingBoxAscent: up, actualBoundingBoxDescent: down } =
    context.measureText(character);
  const scale = Math.min(1, (0.9 * side) / Math.max(up + down, 1));
  context.setTransform(scale, 0, 0, scale, side / 2, side / 2 + (scale * (up - down)) / 2);
  context.fillText(character, 0, 0);
  return brightness(context, side, side, true);
}

/** Brightness of a canvas, row by row; alpha: how opaque it is instead. */
export function brightness(context, width, height, alpha = false) {
  const { data } = context.getImageData(0, 0, width, height);
  return Uint8Array.from({ length: width * height }, (_, k) =>
    alpha
      ? data[4 * k + 3]
      : Math.round(0.299 * data[4 * k] + 0.587 * data[4 * k + 1] + 0.114 * data[4 * k + 2]),
  );
}

/** One body per shape, at random places with random directions. */
export function startBodies(count, random = Math.random) {
  return Array.from({ length: count }, () => {
    const angle = 2 * Math.PI * random();
    return { y: random(), x: random(), vy: STEP * Math.sin(angle), vx: STEP * Math.cos(angle) };
  });
}

export function moveBodies(bodies) {
  return bodies.map(({ y, x, vy, vx }) => {
    const [newY, newVy] = bounced(y + vy, vy),
      [newX, newVx] = bounced(x + vx, vx);
    return { y: newY, x: newX, vy: newVy, vx: newVx };
  });
}

function bounced(place, velocity) {
  if (place <= 0) return [0, Math.abs(velocity)];
  if (place >= 1) return [1, -Math.abs(velocity)];
  return [place, velocity];
}

/** The frame of shapes at the places of bodies: height · width bytes; the brighter one is seen. */
export function frameOf(shapes, bodies, side, height, width) {
  const frame = new Uint8Array(height * width);
  bodies.forEach((body, k) => {
    const top = Math.floor(body.y * (height - side)),
      left = Math.floor(body.x * (width - side));
    const shape = shapes[k];
    for (let row = 0; row < side; row += 1) {
      for (let column = 0; column < side; column += 1) {
        const at = (top + row) * width + left + column;
        frame[at] = Math.max(frame[at], shape[row * side + column]);
      }
    }
  });
  return frame;
}

export function toBase64(bytes) {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}

export function fromBase64(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}
