// The memorycell client for browsers and Node (22 or later): many live sessions over one WebSocket.
//
//   import { Client } from "./client.js";
//   const client = new Client();                          // the page's own server
//   const session = await client.open("glucose", { durable: "step", history: 100 });
//   const { answers, steps } = await session.feed({ datetime: "2010-10-11 00:02:00", glucose: 160 });
//   session.watch((gates) => draw(gates.row(0, 0, "f"))); // every gate of every later item
//   const other = await session.fork();
//   await session.rewind(1);
//   await session.close();
//
// After a lost connection the client connects again, attaches its sessions and repeats the requests
// without an answer. A repeated step says how many items the session must have read, so that no
// item is read twice.

const SUBPROTOCOL = "memorycell.v1";
const HEADER_BYTES = 16, STEPS = 1, PROBLEM = 3, BYTES = 4;
const MIN_WAIT_MS = 300, MAX_WAIT_MS = 5000;
const STATUS = ["ok", "no such handle", "not a number, or overflow", "queue full",
  "session in use", "deadline exceeded", "not durable: the store is full",
  "not durable: the store cannot be reached"];

/** What the server refused (RFC 9457): `status`, `slug`, `detail`, and all of it as `problem`. */
export class ProblemError extends Error {
  constructor(problem = {}) {
    super(problem.detail || problem.title || "unknown problem");
    this.name = "ProblemError";
    this.problem = problem;
    this.status = problem.status;
    this.slug = String(problem.type || "").split("/").pop();
    this.detail = problem.detail;
  }
}

/** The connection broke while a request was under way. */
class LostError extends Error {}

export class Client {
  /** url: of the server, by default the page's own; token: a bearer token, if the server asks. */
  constructor(url = globalThis.location?.origin, { token = null } = {}) {
    this.url = String(url).replace(/\/$/, "");
    this.token = token;
    this.onconnection = () => {}; // ("open" | "lost" | "closed")
    this.onmodel = () => {};      // ({name, version}): a model has a new version
    this.sessions = new Map();    // handle -> Session
    this._waiting = new Map();    // ref -> {resolve, reject}
    this._ref = 0;
    this._socket = null;
    this._opening = null;
    this._closed = false;
    this._wait = 0;
  }

  // ---- over HTTP ------------------------------------------------------------------------------

  async models() { return (await this._get("/v1/models")).models; }
  async model(name) { return this._get(`/v1/models/${encodeURIComponent(name)}`); }

  /** body: {input, options} for texts, {content, name, options} for files. */
  async predict(model, body) { return this._post(model, "predict", body); }
  async inspection(model, body = {}) { return this._post(model, "inspection", body); }

  async _get(path) { return this._fetch(path); }

  async _post(model, verb, body) {
    const headers = { "Content-Type": "application/json" };
    const path = `/v1/models/${encodeURIComponent(model)}/${verb}`;
    return this._fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
  }

  async _fetch(path, options = {}) {
    const headers = { ...options.headers };
    if (this.token) headers.Authorization = `Bearer ${this.token}`;
    const reply = await fetch(this.url + path, { ...options, headers }).catch((cause) => {
      throw new Error("the server cannot be reached", { cause });
    });
    const fallback = { status: reply.status, title: reply.statusText };
    const data = await reply.json().catch(() => fallback);
    if (!reply.ok) throw new ProblemError({ ...fallback, ...data });
    return data;
  }

  // ---- sessions -------------------------------------------------------------------------------

  /** options: {id, input, precision, durable, ttl_s, history, options, state}; watch: gates with
   *  every step. */
  async open(model, { watch = false, ...options } = {}) {
    const request = { op: "open", model, id: newId(), ...options };
    return this._adopt(await this._create(() => request, request), watch);
  }

  /** A session that exists; take: also if another socket holds it. */
  async attach(model, id, { take = false, watch = false } = {}) {
    return this._adopt(await this._json(() => ({ op: "attach", model, id, take })), watch);
  }

  /** One step of several sessions with tensors, in one message: Float32Array [n · width] ->
   *  Float32Array. */
  async step(sessions, inputs) {
    const count = sessions.length, width = inputs.length / count;
    const before = sessions.map((session) => session.steps);
    const { outputs, status } = readOutputs(await this._request((ref) => {
      if (sessions.some((session, k) => session.steps !== before[k])) throw answerLost();
      const frame = new ArrayBuffer(HEADER_BYTES + 4 * count + 4 * inputs.length);
      const view = writeHeader(frame, STEPS, 0, ref, count, width);
      sessions.forEach(({ handle }, k) => view.setUint32(HEADER_BYTES + 4 * k, handle, true));
      new Float32Array(frame, HEADER_BYTES + 4 * count).set(inputs);
      return frame;
    }));
    sessions.forEach((session, k) => { if (!status[k]) session.steps += 1; });
    const refused = status.findIndex((value) => value !== 0);
    if (refused < 0) return outputs;
    const reason = STATUS[status[refused]] ?? status[refused];
    throw Object.assign(new Error(`session ${sessions[refused].id}: ${reason}`), { status, outputs });
  }

  close() {
    this._closed = true;
    this._socket?.close(1000);
    this._lose(new Error("the client was closed"));
    this.onconnection("closed");
  }

  _adopt({ session, handle }, watch) {
    const adopted = new Session(this, session, handle, watch);
    this.sessions.set(handle, adopted);
    return adopted;
  }

  /** Open or fork; if the answer was lost with the connection, the session exists already. */
  async _create(build, { id, model }) {
    let sent = 0;
    try {
      return await this._json(() => { sent += 1; return build(); });
    } catch (error) {
      if (sent < 2 || error.slug !== "session-exists") throw error;
      return this._json(() => ({ op: "attach", model, id, take: true }));
    }
  }

  // ---- requests -------------------------------------------------------------------------------

  _json(build) { return this._request((ref) => JSON.stringify({ ref, ...build() })); }

  /** build(ref) gives the message; it is called again to repeat it after a lost connection. */
  async _request(build) {
    for (;;) {
      await this._connected();
      try {
        return await this._once(build);
      } catch (error) {
        if (!(error instanceof LostError) || this._closed) throw error;
      }
    }
  }

  async _once(build) {
    if (!this._socket) throw new LostError("the connection was lost");
    const ref = (this._ref = (this._ref % 0xffffffff) + 1);
    const message = build(ref);
    const answer = new Promise((resolve, reject) => this._waiting.set(ref, { resolve, reject }));
    this._socket.send(message);
    return answer;
  }

  _connected() {
    if (this._closed) return Promise.reject(new Error("the client was closed"));
    if (this._socket && !this._opening) return Promise.resolve();
    this._opening ??= this._open().finally(() => { this._opening = null; });
    return this._opening;
  }

  /** Connect and attach the sessions. Without sessions, an attempt that fails is an error; with
   *  sessions it is repeated until it succeeds. */
  async _open() {
    for (;;) {
      if (this._wait) await sleep(this._wait * (0.5 + Math.random() / 2));
      if (this._closed) throw new Error("the client was closed");
      try {
        await this._connect();
        await this._attachSessions();
        this._wait = 0;
        this.onconnection("open");
        return;
      } catch (error) {
        this._wait = Math.min(2 * this._wait || MIN_WAIT_MS, MAX_WAIT_MS);
        if (!this.sessions.size) throw error;
      }
    }
  }

  _connect() {
    return new Promise((resolve, reject) => {
      const address = `${this.url.replace(/^http/, "ws")}/v1/socket`;
      const protocols = this.token ? [SUBPROTOCOL, `bearer.${this.token}`] : [SUBPROTOCOL];
      const socket = new WebSocket(address, protocols);
      socket.binaryType = "arraybuffer";
      socket.onopen = () => { this._socket = socket; resolve(); };
      socket.onmessage = ({ data }) => this._received(data);
      socket.onerror = () => {};
      socket.onclose = () => {
        reject(new LostError(`${address}: no connection`));
        if (this._socket !== socket) return;
        this._socket = null;
        this._lose(new LostError("the connection was lost"));
        if (this._closed) return;
        this.onconnection("lost");
        if (this.sessions.size) this._connected().catch(() => {});
      };
    });
  }

  async _attachSessions() {
    for (const [handle, session] of [...this.sessions]) {
      const { id, model } = session;
      try {
        const request = { op: "attach", model, id, take: true };
        const answer = await this._once((ref) => JSON.stringify({ ref, ...request }));
        session._attached(answer);
      } catch (error) {
        if (error instanceof LostError) throw error;
        this.sessions.delete(handle);
        session._end(error);
      }
    }
    this.sessions = new Map([...this.sessions.values()].map((each) => [each.handle, each]));
  }

  _received(data) {
    if (typeof data !== "string") {
      this._finish(new DataView(data).getUint32(4, true), data);
      return;
    }
    const message = JSON.parse(data);
    if (message.event) this._event(message);
    else this._finish(message.ref, message.ok ? message : new ProblemError(message.problem));
  }

  _event(message) {
    if (message.event === "drain") this._wait = message.reconnect_ms || MIN_WAIT_MS;
    if (message.event === "model") this.onmodel(message);
    if (message.event === "closed") {
      const session = this.sessions.get(message.handle);
      this.sessions.delete(message.handle);
      session?._end(new Error(`the session was closed: ${message.reason}`));
    }
  }

  _finish(ref, answer) {
    const waiting = this._waiting.get(ref);
    this._waiting.delete(ref);
    if (answer instanceof Error) waiting?.reject(answer);
    else waiting?.resolve(answer);
  }

  _lose(error) {
    const waiting = [...this._waiting.values()];
    this._waiting.clear();
    for (const { reject } of waiting) reject(error);
  }
}

export class Session {
  /** info: as the server describes it; `steps`, the number of items read, is kept up to date. */
  constructor(client, info, handle, watch) {
    this.client = client;
    this.ended = null;            // why it is closed
    this.onclosed = () => {};     // (reason): the server closed it, or lost it
    this._watch = watch;
    this._watchers = new Set();
    this._queue = Promise.resolve();
    this._attached({ session: info, handle });
  }

  _attached({ session, handle }) {
    this.info = session;
    this.id = session.id;
    this.model = session.model;
    this.steps = session.steps;
    this.handle = handle;
  }

  /** callback(gates, answer) after every step but those with watch: false; returns a function that ends it. */
  watch(callback) {
    this._watchers.add(callback);
    return () => this._watchers.delete(callback);
  }

  get _watched() { return this._watch || this._watchers.size > 0; }

  /** One item: a line, an object, a list of numbers, or bytes (an ArrayBuffer or a typed array).
   *  -> {answers, steps, gates} */
  async feed(item, { watch = this._watched } = {}) {
    if (item instanceof ArrayBuffer || ArrayBuffer.isView(item)) return this._bytes(item, watch);
    return this._step({ item }, watch);
  }

  /** Several items in one request; `answers` has one list per item. */
  async feedMany(items, { watch = this._watched } = {}) { return this._step({ items }, watch); }

  /** The input has ended: the last answers. The session stays. */
  async end() { return this._op({ op: "end" }); }

  async fork({ watch = this._watch, ...options } = {}) {
    const request = { op: "fork", id: newId(), ...options };
    const build = () => ({ handle: this.handle, ...request });
    const answer = await this._inOrder(() =>
      this.client._create(build, { id: request.id, model: this.model }));
    return this.client._adopt(answer, watch);
  }

  async rewind(items = 1) { return this._op({ op: "rewind", items }, { once: true }); }
  async state() { return (await this._op({ op: "state" })).state; }       // base64
  async restore(state) { return this._op({ op: "restore", state }); }

  /** Delete the session on the server. */
  async close() {
    await this._op({ op: "close" });
    this.client.sessions.delete(this.handle);
    this.ended = new Error("the session was closed");
  }

  _step(what, watch) {
    const watched = watch ? { watch: true } : {};
    return this._inOrder(() => {
      const after = this.steps;   // makes it safe to repeat
      return this.client._json(
        () => ({ op: "step", handle: this.handle, after, ...watched, ...what }));
    });
  }

  _bytes(item, watch) {
    const bytes = new Uint8Array(item.buffer ?? item, item.byteOffset ?? 0, item.byteLength);
    const flags = watch ? 1 : 0;
    return this._inOrder(async () => {
      const before = this.steps;
      return this.client._request((ref) => {
        if (this.steps !== before) throw answerLost();
        const frame = new ArrayBuffer(HEADER_BYTES + bytes.length);
        writeHeader(frame, BYTES, flags, ref, bytes.length, this.handle);
        new Uint8Array(frame, HEADER_BYTES).set(bytes);
        return frame;
      });
    });
  }

  _op(what, { once = false } = {}) {
    return this._inOrder(async () => {
      const before = this.steps;
      return this.client._json(() => {
        if (once && this.steps !== before) throw answerLost();
        return { handle: this.handle, ...what };
      });
    });
  }

  /** One request of a session at a time, so that what may be repeated is known. */
  _inOrder(request) {
    const result = this._queue.then(async () => {
      if (this.ended) throw this.ended;
      const answer = await request();
      if (answer.handle === undefined || answer.handle === this.handle) {
        this.steps = answer.steps ?? answer.session?.steps ?? this.steps;
      }
      if (answer.gates) {
        answer.gates = decodeGates(answer.gates);
        for (const callback of this._watchers) callback(answer.gates, answer);
      }
      return answer;
    });
    this._queue = result.catch(() => {});
    return result;
  }

  _end(reason) {
    this.ended = reason;
    this.onclosed(reason);
  }
}

/** Gates with their numbers as a Float32Array; row(t, layer, name) gives the values of all units. */
export function decodeGates(gates) {
  const bytes = Uint8Array.from(atob(gates.data), (character) => character.charCodeAt(0));
  const data = new Float32Array(bytes.buffer);
  const sizes = gates.layers.map(({ names, units }) => names.length * units);
  const perStep = sizes.reduce((sum, size) => sum + size, 0);
  const row = (t, layer, name) => {
    const { names, units } = gates.layers[layer];
    if (!names.includes(name)) return undefined;
    const before = sizes.slice(0, layer).reduce((sum, size) => sum + size, 0);
    const at = t * perStep + before + names.indexOf(name) * units;
    return data.subarray(at, at + units);
  };
  return { ...gates, data, row };
}

function readOutputs(data) {
  const view = new DataView(data);
  const count = view.getUint32(8, true), width = view.getUint32(12, true);
  if (view.getUint8(0) === PROBLEM) {
    throw new ProblemError(JSON.parse(new TextDecoder().decode(new Uint8Array(data, HEADER_BYTES, count))));
  }
  const outputs = new Float32Array(data, HEADER_BYTES, count * width);
  const at = HEADER_BYTES + 4 * count * width;
  const status = view.getUint8(1) & 1 ? new Uint8Array(data, at, count) : new Uint8Array(count);
  return { outputs, status };
}

function writeHeader(frame, kind, flags, ref, count, width) {
  const view = new DataView(frame);
  view.setUint8(0, kind);
  view.setUint8(1, flags);
  view.setUint32(4, ref, true);
  view.setUint32(8, count, true);
  view.setUint32(12, width, true);
  return view;
}

function answerLost() {
  return new Error("the connection broke after the server had read the item: its answer is lost");
}

function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function sleep(ms) { return new Promise((done) => setTimeout(done, ms)); }
