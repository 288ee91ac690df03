// Runs beside the page's own thread: passes the microphone's samples on.

class Microphone extends AudioWorkletProcessor {
  process([[channel]]) {
    if (channel) this.port.postMessage(channel.slice());
    return true;
  }
}

registerProcessor("microphone", Microphone);
