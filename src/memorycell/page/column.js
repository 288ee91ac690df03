// One live session: what it read, what it answered, its gates, and going back in time.

import { GatesPanel } from "./gates_panel.js";

export const HISTORY = 1000;
const REPLAY_ITEMS = 64;

/** `records` are {item, answers, columns}: the past up to `position`, and what was undone after it.
 *  `dropped` counts older ones: memory stays constant. onchange() is called after every change. */
export class Column {
  constructor(client, model, options = {}) {
    this.client = client;
    this.model = model;
    this.options = options;
    this.precision = options.precision ?? "float32";
    this.durable = "step";
    this.gates = new GatesPanel();
    this.records = [];
    this.position = 0;
    this.dropped = 0;
    this.onchange = () => {};
    this.onproblem = () => {};
    this.onfed = () => {};
    this.work = Promise.resolve();
  }

  /** Open the session: on disk with every step where the server has a store. */
  async open() {
    const { model, precision } = this;
    const request = {
      precision,
      history: HISTORY,
      ...(this.options.session && { options: this.options.session }),
    };
    try {
      this.adopt(await this.client.open(model.name, { ...request, durable: this.durable }));
    } catch (error) {
      if (this.durable === "none" || error.slug !== "bad-request") throw error;
      this.durable = "none";
      await this.open();
    }
    return this;
  }

  adopt(session) {
    this.session = session;
    this.columns = 0;
    if (this.model.watch) {
      session.watch((gates) => {
        this.columns = this.gates.push(gates);
      });
    }
    session.onclosed = () => {
      if (!this.closing) this.inOrder(() => this.reopen());
    };
  }

  get past() {
    return this.records.slice(0, this.position);
  }
  get last() {
    return this.records[this.position - 1];
  }
  get answers() {
    return this.last?.answers ?? [];
  }

  /** Read items one after the other; what was undone before is forgotten. */
  feed(items, { mirrored = false } = {}) {
    return this.inOrder(async () => {
      this.records.length = this.position;
      const answer = await this.step(items);
      this.keep(items, answer);
      this.onchange();
      if (!mirrored) this.onfed(items);
      return answer.answers;
    });
  }

  async step(items) {
    this.columns = 0;
    const one = items.length === 1;
    const answer = one ? await this.session.feed(items[0]) : await this.session.feedMany(items);
    const answers = answer.answers ?? answer.y; // y: the outputs of a bare layer
    return { answers: one ? [answers] : answers, columns: this.columns };
  }

  keep(items, { answers, columns }) {
    items.forEach((item, k) =>
      this.records.push({
        item,
        answers: answers[k],
        columns:
          k === items.length - 1
            ? columns - Math.floor(columns / items.length) * (items.length - 1)
            : Math.floor(columns / items.length),
      }),
    );
    this.position = this.records.length;
    const extra = this.records.length - HISTORY;
    if (extra > 0) {
      this.ondropped?.(this.records.splice(0, extra));
      this.dropped += extra;
      this.position -= extra;
    }
  }

  /** Go to a number of records: rewind the session, or read again what was undone. */
  goTo(target) {
    const goal = Math.max(0, Math.min(target, this.records.length));
    this.goal = goal;
    return this.inOrder(async () => {
      if (goal !== this.goal || goal === this.position) return; // a later request has replaced it
      if (goal < this.position) await this.rewind(goal);
      else {
        const undone = this.records.slice(this.position, goal);
        const { answers } = await this.step(undone.map((record) => record.item));
        undone.forEach((record, k) => {
          record.answers = answers[k];
        });
      }
      this.position = goal;
      this.onchange();
    });
  }

  async rewind(goal) {
    const undone = this.records.slice(goal, this.position);
    try {
      await this.session.rewind(undone.length);
    } catch (error) {
      // beyond the history of the server, such as after its restart
      if (this.dropped) throw error;
      return this.replay(goal);
    }
    this.gates.drop(undone.reduce((sum, record) => sum + record.columns, 0));
    return undefined;
  }

  /** A new session that reads the records up to `goal` again. */
  async replay(goal) {
    const old = this.session;
    this.gates.drop(Infinity);
    old.onclosed = () => {};
    old.close().catch(() => {});
    await this.open();
    for (let k = 0; k < goal; k += REPLAY_ITEMS) {
      await this.step(this.records.slice(k, Math.min(k + REPLAY_ITEMS, goal)).map((r) => r.item));
    }
  }

  /** Start again with an empty state. */
  restart() {
    return this.inOrder(async () => {
      this.records = [];
      this.position = this.dropped = 0;
      await this.replay(0);
      this.onchange();
    });
  }

  /** A second session with the same state and past. */
  async fork() {
    const other = new Column(this.client, this.model, this.options);
    other.precision = this.precision;
    other.durable = this.durable;
    await this.inOrder(async () => {
      other.adopt(await this.session.fork({ history: HISTORY, durable: this.durable }));
      other.records = this.past;
      other.position = this.position;
      other.dropped = this.dropped;
      other.gates.copyFrom(this.gates);
    });
    return other;
  }

  /** The same past read by another model or in another precision. */
  async compare(model, precision) {
    const other = new Column(this.client, model, { ...this.options, precision });
    await other.open();
    const items = this.past.map((record) => record.item);
    for (let k = 0; k < items.length; k += REPLAY_ITEMS)
      await other.feed(items.slice(k, k + REPLAY_ITEMS), { mirrored: true });
    return other;
  }

  /** Store the state on the server under a name: as a session that nobody feeds. */
  save(name) {
    return this.inOrder(async () => {
      const stored = await this.session.fork({ id: name, durable: this.durable });
      await this.release(stored);
    });
  }

  /** Continue from a copy of a stored state; its past is not known here. */
  openSaved(name) {
    return this.inOrder(async () => {
      const stored = await this.client.attach(this.model.name, name, { take: true });
      const copy = await stored.fork({ history: HISTORY, durable: this.durable });
      await this.release(stored);
      const old = this.session;
      old.onclosed = () => {};
      old.close().catch(() => {});
      this.adopt(copy);
      this.gates.drop(Infinity);
      this.records = [];
      this.position = 0;
      this.dropped = copy.steps;
      this.onchange();
    });
  }

  /** Leave a session on the server. */
  async release(session) {
    session.onclosed = () => {};
    this.client.sessions.delete(session.handle);
    await session._op({ op: "detach" });
  }

  /** The session is gone, such as after a restart of the server: read the records again. */
  async reopen() {
    if (!this.session.ended) return;
    if (this.dropped) throw this.session.ended;
    await this.replay(this.position);
    this.onchange();
  }

  close() {
    this.closing = true;
    return this.inOrder(() => this.session.close());
  }

  /** One request after the other; resolves to undefined after a problem, which is reported. */
  inOrder(work) {
    this.work = this.work
      .then(async () => {
        try {
          return await work();
        } catch (error) {
          if (!this.session?.ended || this.closing) throw error;
          await this.reopen();
          return work();
        }
      })
      .catch((error) => this.onproblem(error));
    return this.work;
  }
}
