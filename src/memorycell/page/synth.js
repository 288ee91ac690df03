// Tones with Web Audio: a triangle with an envelope for each key.

const ATTACK_S = 0.015,
  RELEASE_S = 0.35,
  LOUDNESS = 0.16;
let audio = null;

/** Sound some MIDI pitches together, after a gesture of the visitor. */
export function play(pitches, seconds = 0.6) {
  if (!globalThis.AudioContext) return;
  audio ??= new AudioContext();
  audio.resume();
  const now = audio.currentTime;
  for (const pitch of pitches) {
    const tone = audio.createOscillator(),
      gain = audio.createGain();
    tone.type = "triangle";
    tone.frequency.value = 440 * 2 ** ((pitch - 69) / 12);
    gain.gain.setValueAtTime(0, now);
    gain.gain.linearRampToValueAtTime(LOUDNESS / Math.sqrt(pitches.length), now + ATTACK_S);
    gain.gain.setTargetAtTime(0, now + seconds, RELEASE_S / 3);
    tone.connect(gain).connect(audio.destination);
    tone.start(now);
    tone.stop(now + seconds + 2 * RELEASE_S);
  }
}
