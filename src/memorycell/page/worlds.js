// The environments that the page can simulate, with the equations of gymnasium (MIT licence):
// CartPole-v1 after Barto, Sutton & Anderson (1983), Pendulum-v1, and the T-maze of memorycell.
// A world is a plain object that is never changed: an episode can be rewound.

import { ink } from "./colours.js";

const GRAVITY = 9.8,
  CART_KG = 1,
  POLE_KG = 0.1,
  HALF_POLE_M = 0.5,
  FORCE_N = 10,
  CART_S = 0.02,
  MAX_X = 2.4,
  MAX_ANGLE = (12 * 2 * Math.PI) / 360;
const MAX_SPEED = 8,
  MAX_TORQUE = 2,
  PENDULUM_S = 0.05,
  PENDULUM_G = 10;

const between = (low, high) => low + (high - low) * Math.random();
const clip = (value, low, high) => Math.min(Math.max(value, low), high);
const turned = (angle) => {
  const full = 2 * Math.PI;
  return ((((angle + Math.PI) % full) + full) % full) - Math.PI;
};

const cartPole = {
  names: ["position", "velocity", "angle", "angular velocity"],
  tickMs: 1000 * CART_S,
  maxSteps: 500,
  push: 0.6,
  start: () => ({ x: 0, v: 0, angle: 0, spin: 0, ...randomCart() }),
  observe: ({ x, v, angle, spin }) => [x, v, angle, spin],
  step({ x, v, angle, spin }, action) {
    const force = action === 1 ? FORCE_N : -FORCE_N,
      mass = CART_KG + POLE_KG,
      cos = Math.cos(angle),
      sin = Math.sin(angle);
    const pull = (force + POLE_KG * HALF_POLE_M * spin * spin * sin) / mass;
    const turn =
      (GRAVITY * sin - cos * pull) / (HALF_POLE_M * (4 / 3 - (POLE_KG * cos * cos) / mass));
    const speedUp = pull - (POLE_KG * HALF_POLE_M * turn * cos) / mass;
    const world = {
      x: x + CART_S * v,
      v: v + CART_S * speedUp,
      angle: angle + CART_S * spin,
      spin: spin + CART_S * turn,
    };
    const done = Math.abs(world.x) > MAX_X || Math.abs(world.angle) > MAX_ANGLE;
    return { world, reward: 1, done };
  },
  pushed: (world, side) => ({ ...world, spin: world.spin + side * cartPole.push }),
  says: (action) => (action === 1 ? "push right" : "push left"),
  draw(context, width, height, { x, angle }, action) {
    const scale = width / (2 * MAX_X * 1.15),
      ground = height - 34,
      cart = width / 2 + x * scale;
    stroke(context, "line", 2, [0, ground + 11], [width, ground + 11]);
    for (const end of [-MAX_X, MAX_X]) {
      const edge = width / 2 + end * scale;
      stroke(context, "orange", 2, [edge, ground - 20], [edge, ground + 11]);
    }
    context.fillStyle = ink("ink");
    context.fillRect(cart - 26, ground - 10, 52, 20);
    const length = Math.min(2 * HALF_POLE_M * scale * 1.6, ground - 20);
    const tip = [cart + length * Math.sin(angle), ground - 10 - length * Math.cos(angle)];
    stroke(context, "orange", 8, [cart, ground - 10], tip);
    if (action !== undefined) arrow(context, [cart, ground + 24], action === 1 ? 34 : -34);
  },
};

function randomCart() {
  const [x, v, angle, spin] = Array.from({ length: 4 }, () => between(-0.05, 0.05));
  return { x, v, angle, spin };
}

const pendulum = {
  names: ["cos angle", "sin angle", "angular velocity"],
  tickMs: 1000 * PENDULUM_S,
  maxSteps: 200,
  push: 3,
  start: () => ({ angle: between(-Math.PI, Math.PI), spin: between(-1, 1) }),
  observe: ({ angle, spin }) => [Math.cos(angle), Math.sin(angle), spin],
  step({ angle, spin }, action) {
    const torque = clip(Number(action), -MAX_TORQUE, MAX_TORQUE);
    const cost = turned(angle) ** 2 + 0.1 * spin * spin + 0.001 * torque * torque;
    const pull = 1.5 * PENDULUM_G * Math.sin(angle) + 3 * torque;
    const speed = clip(spin + pull * PENDULUM_S, -MAX_SPEED, MAX_SPEED);
    const world = { angle: angle + speed * PENDULUM_S, spin: speed };
    return { world, reward: -cost, done: false };
  },
  pushed: (world, side) => ({ ...world, spin: clip(world.spin + side * pendulum.push, -8, 8) }),
  says: (action) => `torque ${clip(Number(action), -MAX_TORQUE, MAX_TORQUE).toFixed(2)} N·m`,
  draw(context, width, height, { angle }, action) {
    const hub = [width / 2, height / 2],
      length = height / 2 - 16;
    // An angle of 0 is upright; angles grow against the clock, as in gymnasium's picture.
    const tip = [hub[0] - length * Math.sin(angle), hub[1] - length * Math.cos(angle)];
    stroke(context, "line", 1, [hub[0], 8], [hub[0], hub[1]]);
    stroke(context, "orange", 14, hub, tip);
    dot(context, "ink", hub, 5);
    if (action === undefined) return;
    const torque = clip(Number(action), -MAX_TORQUE, MAX_TORQUE) / MAX_TORQUE;
    context.strokeStyle = ink("blue");
    context.lineWidth = 4;
    context.beginPath();
    context.arc(...hub, 26, -Math.PI / 2, -Math.PI / 2 - torque * 2.4, torque > 0);
    context.stroke();
  },
};

const tMaze = {
  names: ["sign", "corridor", "junction"],
  tickMs: 60,
  start: ({ gap, side }) => ({ gap, side: side ?? (Math.random() < 0.5 ? 0 : 1), place: 0 }),
  observe: ({ gap, side, place }) => [
    place === 0 ? 2 * side - 1 : 0,
    place > 0 && place < gap ? 1 : 0,
    place === gap ? 1 : 0,
  ],
  step(world, action) {
    if (world.place < world.gap)
      return { world: { ...world, place: world.place + 1 }, reward: 0, done: false };
    const reward = action === world.side ? 1 : 0;
    return { world: { ...world, turn: action }, reward, done: true };
  },
  says: (action) => (action === 1 ? "would turn right" : "would turn left"),
  draw(context, width, height, { gap, side, place, turn }) {
    const middle = height / 2,
      from = 46,
      to = width - 46;
    context.fillStyle = ink("raised");
    context.fillRect(from - 24, middle - 16, to - from + 40, 32);
    context.fillRect(to - 16, 14, 32, height - 28);
    context.fillStyle = ink("muted");
    context.font = `12px ${ink("font")}`;
    context.textAlign = "center";
    context.fillText("left", to, 26);
    context.fillText("right", to, height - 18);
    const seen = place === 0;
    context.fillStyle = ink(seen ? "blue" : "faint");
    context.font = `bold 22px ${ink("font")}`;
    context.fillText(side === 1 ? "↓" : "↑", from - 8, middle - 24);
    context.font = `12px ${ink("font")}`;
    context.textAlign = "left";
    context.fillText(
      seen ? "the sign is seen" : `the sign was seen ${place} steps ago`,
      from + 8,
      middle - 26,
    );
    const x = from + (place / Math.max(gap, 1)) * (to - from);
    const y = turn === undefined ? middle : turn === 1 ? height - 44 : 44;
    dot(context, turn === undefined ? "orange" : turn === side ? "green" : "danger", [x, y], 9);
  },
};

const WORLDS = { "CartPole-v1": cartPole, "Pendulum-v1": pendulum, "t-maze": tMaze };

/** {names, start, observe, step, draw, …} of an environment's name, or null. */
export function worldOf(name) {
  return Object.hasOwn(WORLDS, name) ? WORLDS[name] : null;
}

function stroke(context, colour, width, from, to) {
  context.strokeStyle = ink(colour);
  context.lineWidth = width;
  context.lineCap = "round";
  context.beginPath();
  context.moveTo(...from);
  context.lineTo(...to);
  context.stroke();
}

function dot(context, colour, [x, y], radius) {
  context.fillStyle = ink(colour);
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fill();
}

function arrow(context, [x, y], length) {
  const tip = [x + length, y],
    back = 7 * Math.sign(length);
  stroke(context, "blue", 4, [x, y], tip);
  stroke(context, "blue", 4, tip, [tip[0] - back, y - 6]);
  stroke(context, "blue", 4, tip, [tip[0] - back, y + 6]);
}
