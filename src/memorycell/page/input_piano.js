// A piano: keys that sound together are one frame; the keys that may follow are marked.

import { announce, fill, h, percent, reducedMotion } from "./dom.js";
import { play } from "./synth.js";

const LOWEST = 36,
  HIGHEST = 84; // C2 to C6
const TOGETHER_MS = 70,
  BEAT_MS = 620,
  MIN_P = 0.03,
  MAX_VOICES = 4,
  NOTE_ON = 9;
const LETTERS = ["C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B"];
const KEYBOARD = {
  a: 60,
  w: 61,
  s: 62,
  e: 63,
  d: 64,
  f: 65,
  t: 66,
  g: 67,
  y: 68,
  h: 69,
  u: 70,
  j: 71,
  k: 72,
  o: 73,
  l: 74,
  p: 75,
};

const nameOf = (pitch) => `${LETTERS[pitch % 12]}${Math.floor(pitch / 12) - 1}`;
const FLATS = { Db: "C#", Eb: "D#", Gb: "F#", Ab: "G#", Bb: "A#" };

function pitchOf(name) {
  const [, letter, octave] = name.match(/^([A-G](?:#|b|♯|♭)?)(-?\d+)$/);
  const sharp = letter.replace("♯", "#").replace("♭", "b");
  return LETTERS.indexOf(FLATS[sharp] ?? sharp) + 12 * (Number(octave) + 1);
}

export function pianoInput(column, about, onproblem) {
  let chord = new Set(),
    wait = null,
    playing = null;
  const keys = new Map();
  const piano = h("div", {
    class: "piano",
    role: "group",
    "aria-label": "Piano, two lowest to highest octaves",
  });
  for (let pitch = LOWEST; pitch <= HIGHEST; pitch += 1) {
    const key = h(
      "button",
      {
        type: "button",
        class: LETTERS[pitch % 12].includes("#") ? "key black" : "key white",
        "aria-label": nameOf(pitch),
        tabindex: pitch === 60 ? "0" : "-1",
        "data-pitch": String(pitch),
        onpointerdown: (event) => {
          event.preventDefault();
          key.focus({ preventScroll: true });
          press(pitch);
        },
      },
      pitch % 12 === 0 ? h("span", { "aria-hidden": "true" }, nameOf(pitch)) : null,
    );
    keys.set(pitch, key);
    piano.append(key);
  }
  const next = h("p", { class: "hint" }),
    heard = h("ol", { class: "frames", "aria-label": "Frames so far" });
  const go = h(
    "button",
    { type: "button", class: "primary", onclick: () => (playing ? stop() : start()) },
    "Continue for me",
  );
  const element = h(
    "div",
    { class: "stack" },
    h("div", { class: "piano-scroll" }, piano),
    h(
      "div",
      { class: "row" },
      go,
      h("button", { type: "button", onclick: () => column.feed(["-"]) }, "Rest"),
      h("button", { type: "button", onclick: () => column.undo() }, "Undo"),
      navigator.requestMIDIAccess
        ? h("button", { type: "button", onclick: () => connect() }, "Use a MIDI keyboard")
        : null,
    ),
    next,
    heard,
    h(
      "p",
      { class: "hint" },
      "Keys pressed together are one chord. With a computer keyboard:" +
        " click a key, then A S D F G H J K are C4 to C5, W E T Y U the black keys. The arrows move.",
    ),
  );
  piano.addEventListener("keydown", (event) => {
    const pitch = Number(event.target.dataset.pitch);
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (move && keys.has(pitch + move)) {
      event.preventDefault();
      event.target.tabIndex = -1;
      keys.get(pitch + move).tabIndex = 0;
      keys.get(pitch + move).focus();
    } else if ((event.key === "Enter" || event.key === " ") && !event.repeat) {
      event.preventDefault();
      press(pitch);
    } else if (
      event.key.toLowerCase() in KEYBOARD &&
      !event.repeat &&
      !event.ctrlKey &&
      !event.metaKey
    ) {
      press(KEYBOARD[event.key.toLowerCase()]);
    }
  });

  /** Notes of every MIDI input that is connected now. */
  async function connect() {
    try {
      const { inputs } = await navigator.requestMIDIAccess();
      if (!inputs.size) throw new Error("none is connected");
      for (const input of inputs.values()) {
        input.onmidimessage = ({ data: [status, pitch, velocity] }) => {
          if (status >> 4 === NOTE_ON && velocity) press(pitch);
        };
      }
      announce("MIDI keyboard connected");
    } catch (error) {
      onproblem(new Error(`No MIDI keyboard can be used (${error.message})`));
    }
  }

  function press(pitch) {
    chord.add(pitch);
    play([pitch]);
    flash([pitch]);
    clearTimeout(wait);
    wait = setTimeout(() => {
      const frame = [...chord];
      chord = new Set();
      column.feed([frame.map(nameOf).join(" ")]);
    }, TOGETHER_MS);
  }

  function flash(pitches) {
    for (const pitch of pitches) {
      const key = keys.get(pitch);
      key?.classList.add("sounding");
      setTimeout(() => key?.classList.remove("sounding"), 350);
    }
  }

  /** A chord from the probabilities of the keys: each by chance, at most four, at least one. */
  function choose() {
    const likely = (column.answers[0]?.next ?? []).filter(({ p }) => p >= MIN_P);
    const chosen = likely.filter(({ p }) => Math.random() < p).slice(0, MAX_VOICES);
    return (chosen.length ? chosen : likely.slice(0, 1)).map(({ key }) => key);
  }

  function start() {
    go.textContent = "Stop";
    const beat = async () => {
      if (!column.position) await column.feed(["C3 E4 G4 C5"]);
      const names = choose();
      const pitches = names.map(pitchOf);
      play(pitches, BEAT_MS / 1000);
      if (!reducedMotion()) flash(pitches);
      await column.feed([names.join(" ") || "-"]);
    };
    beat();
    playing = setInterval(beat, BEAT_MS);
  }

  function stop() {
    clearInterval(playing);
    playing = null;
    go.textContent = "Continue for me";
  }

  function show() {
    const likely = column.answers[0]?.next ?? [];
    for (const key of keys.values()) {
      key.style.removeProperty("--p");
      key.classList.remove("likely");
    }
    for (const { key, p } of likely) {
      const element = keys.get(pitchOf(key));
      if (p < MIN_P || !element) continue;
      element.classList.add("likely");
      element.style.setProperty("--p", String(Math.sqrt(p)));
    }
    next.textContent = likely.length
      ? `May follow: ${likely
          .filter(({ p }) => p >= MIN_P)
          .map(({ key, p }) => `${key} ${percent(p)}`)
          .join(", ")}`
      : "Play some keys; those that may follow light up.";
    fill(
      heard,
      column.past.slice(-24).map(({ item }) =>
        h(
          "li",
          {},
          item
            .split(" ")
            .sort((a, b) => pitchOf(b) - pitchOf(a))
            .map((name) => h("span", {}, name)),
        ),
      ),
    );
    if (column.answers[0] && !playing) announce(next.textContent);
  }

  return { element, show, stop };
}
