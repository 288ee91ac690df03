// Sound from a microphone or a file, as 16-bit samples at the model's rate.

import { Picture } from "./canvas.js";
import { ink } from "./colours.js";
import { fill, h, percent } from "./dom.js";

const DEFAULT_RATE_HZ = 16000,
  CHUNK_S = 0.1,
  MAX_PEAKS = 400,
  // Models learn from recordings; what is meant for telephone calls would change the sound.
  UNCHANGED = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };

export function soundInput(column, about, onproblem) {
  const rate = about.sample_rate_hz ?? DEFAULT_RATE_HZ;
  const peaks = [];
  let running = null,
    reading = null, // the file that is read
    samples = [],
    waiting = Promise.resolve();
  const record = h(
    "button",
    {
      type: "button",
      class: "primary",
      onclick: () => (running ? stop() : listen().catch(refused)),
    },
    "Use the microphone",
  );
  const file = h("input", {
    type: "file",
    accept: "audio/*",
    class: "visually-hidden",
    id: `sound-${Math.random().toString(36).slice(2)}`,
    onchange: () => file.files[0] && read(file.files[0]),
  });
  const wave = new Picture({ height: 70, label: "Loudness of the sound", draw: paint });
  const words = h("p", { class: "words", "aria-live": "polite" });
  const element = h(
    "div",
    { class: "stack" },
    h(
      "div",
      { class: "row" },
      record,
      file,
      h("label", { class: "file", for: file.id }, "Choose a sound file"),
    ),
    wave.canvas,
    words,
  );

  function refused(error) {
    onproblem(
      new Error(`The microphone cannot be used (${error.message}). Choose a file instead.`),
    );
  }

  async function listen() {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: UNCHANGED });
    const context = new AudioContext({ sampleRate: rate });
    await context.audioWorklet.addModule("microphone.js");
    const node = new AudioWorkletNode(context, "microphone");
    node.port.onmessage = ({ data }) => add(data);
    context.createMediaStreamSource(stream).connect(node);
    running = { stream, context };
    record.textContent = "Stop";
  }

  function stop() {
    running?.stream.getTracks().forEach((track) => track.stop());
    running?.context.close();
    running = reading = null;
    record.textContent = "Use the microphone";
  }

  async function read(chosen) {
    stop();
    reading = chosen;
    try {
      const context = new OfflineAudioContext(1, 1, rate);
      const sound = await context.decodeAudioData(await chosen.arrayBuffer()); // resampled to the rate
      if (!sound.length) throw new Error("it is empty");
      const data = sound.getChannelData(0),
        size = Math.round(rate * CHUNK_S);
      for (let k = 0; k < data.length && reading === chosen; k += size) {
        await add(data.slice(k, k + size));
      }
      if (reading === chosen) flush(true);
    } catch (error) {
      const reason = chosen.size ? error.message : "it is empty";
      onproblem(new Error(`${chosen.name} cannot be read as sound (${reason})`));
    }
    file.value = "";
  }

  function add(chunk) {
    samples.push(chunk);
    return flush(false);
  }

  function flush(all) {
    const count = samples.reduce((sum, chunk) => sum + chunk.length, 0);
    if (!count || (!all && count < rate * CHUNK_S)) return waiting;
    const pcm = new Int16Array(count);
    let k = 0,
      peak = 0;
    for (const chunk of samples) {
      for (const value of chunk) {
        pcm[k] = Math.max(-32768, Math.min(32767, Math.round(value * 32767)));
        peak = Math.max(peak, Math.abs(value));
        k += 1;
      }
    }
    samples = [];
    peaks.push(peak);
    if (peaks.length > MAX_PEAKS) peaks.shift();
    waiting = column.feed([{ base64: base64(pcm) }]);
    return waiting;
  }

  function paint(context, width, height) {
    const step = Math.max(2, Math.min(6, width / Math.max(peaks.length, 1)));
    context.fillStyle = ink("line");
    context.fillRect(0, height / 2, width, 1);
    context.fillStyle = ink("blue");
    peaks.slice(-Math.floor(width / step)).forEach((peak, k) => {
      const size = Math.max(1, Math.sqrt(peak) * height);
      context.fillRect(k * step, (height - size) / 2, step - 1, size);
    });
  }

  function show() {
    wave.draw();
    const answers = column.past.slice(-200).flatMap((each) => each.answers);
    const shown = answers.filter((answer, k) => answer.final || k === answers.length - 1);
    fill(
      words,
      shown.length
        ? shown.map((answer) =>
            h(
              "span",
              { class: answer.final ? "chip blue" : "chip" },
              answer.label ?? answer.word ?? "",
              h("small", {}, ` ${percent(answer.p)}`),
            ),
          )
        : h("span", { class: "hint" }, "Speak, or choose a file. What is recognised appears here."),
    );
  }

  return { element, show, stop, options: () => ({ session: { rate, format: "s16le" } }) };
}

function base64(pcm) {
  const bytes = new Uint8Array(pcm.buffer);
  let text = "";
  for (let k = 0; k < bytes.length; k += 8192)
    text += String.fromCharCode(...bytes.subarray(k, k + 8192));
  return btoa(text);
}
