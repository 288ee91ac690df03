// One live session: what it read, what it answered, its gates, and going back in time.

import { GatesPanel } from "./gates_panel.js";

export const HISTORY = 1000;
const REPLAY_ITEMS = 64,
  ANCHOR_EVERY = 250;

/** `records` are {item, answers, columns, note}: the past up to `position`, and what was undone
 *  after it. `dropped` counts older ones: memory stays constant. `anchors` are states of the
 *  session, {at, state}; the records begin at one of them, so that each of them can be reached by
 *  reading again. A note is what an input panel remembers of an item.
 *  onchange() is called after every change. */
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
    this.going = 0; // calls of `goTo` that are under way, to `goal`
    this.dropped = 0;
    this.anchors = [];
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
    this.gained = null; // {steps, items}: columns of the last request, and of each of its items
    if (this.model.watch) {
      session.watch((gates) => {
        const { items, complete } = gates;
        this.gained = { steps: this.gates.push(gates), items, complete };
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
  /** Where the position will be, for a control that is moved again before it is there. */
  get target() {
    return this.going ? this.goal : this.position;
  }
  get answers() {
    return this.last?.answers ?? [];
  }

  /** Read items one after the other; what was undone before is forgotten. See `step`. */
  feed(items, { mirrored = false, notes = [], watch = true, onproblem } = {}) {
    return this.inOrder(async () => {
      this.records.length = this.position;
      const at = this.dropped + this.position;
      while (this.anchors.at(-1)?.at > at) this.anchors.pop();
      const answer = await this.step(items, watch);
      this.keep(items, answer, notes);
      this.onchange();
      if (!mirrored) this.onfed(items, notes);
      await this.anchor();
      return answer.answers;
    }, onproblem);
  }

  /** Remember the state from time to time, and forget the records before the oldest needed one. */
  async anchor() {
    const now = this.dropped + this.position;
    if (now - (this.anchors.at(-1)?.at ?? 0) >= ANCHOR_EVERY) {
      const state = await this.session.state().catch(() => null); // not allowed, or lost
      this.anchors.push({ at: now, state });
    }
    const first = this.anchors.findLast(({ at }) => at <= now - HISTORY);
    if (!first || first.at <= this.dropped) return;
    this.anchors = this.anchors.filter(({ at }) => at >= first.at);
    const old = this.records.splice(0, first.at - this.dropped);
    this.dropped += old.length;
    this.position -= old.length;
    this.ondropped?.(old);
    this.onchange();
  }

  /** watch: whether with gates, which cost more than the steps; without, the map begins again. */
  async step(items, watch = true) {
    this.gained = null;
    if (!watch) this.gates.drop(Infinity);
    const one = items.length === 1,
      how = watch ? {} : { watch };
    const answer = await (one
      ? this.session.feed(items[0], how)
      : this.session.feedMany(items, how));
    const answers = answer.answers ?? answer.y; // y: the outputs of a bare layer
    return {
      answers: one ? [answers] : answers,
      columns: columnsOfItems(items.length, this.gained),
    };
  }

  keep(items, { answers, columns }, notes) {
    items.forEach((item, k) =>
      this.records.push({ item, answers: answers[k], columns: columns[k], note: notes[k] }),
    );
    this.position = this.records.length;
  }

  /** Go to a number of records: rewind the session, or read again what was undone. */
  goTo(target) {
    const goal = Math.max(0, Math.min(target, this.records.length));
    this.goal = goal;
    this.going += 1;
    const done = this.inOrder(async () => {
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
    return done.then(() => {
      this.going -= 1;
    });
  }

  /** Undo the last record, or those from the one that `first()` gives, once everything that is
   *  under way has been read. */
  undo(first = () => this.position - 1) {
    return this.inOrder(async () => {
      const goal = Math.max(0, first());
      if (goal >= this.position) return;
      await this.rewind(goal);
      this.position = this.goal = goal;
      this.onchange();
    });
  }

  async rewind(goal) {
    const undone = this.records.slice(goal, this.position);
    try {
      await this.session.rewind(undone.length);
    } catch (error) {
      // beyond the history of the server, such as after its restart
      if (error.slug !== "unusable-input") throw error;
      return this.replay(goal);
    }
    this.gates.drop(undone.reduce((sum, record) => sum + record.columns, 0));
    return undefined;
  }

  /** A new session that reads the records up to `goal` again, from the last state before it. */
  async replay(goal) {
    const anchor = this.anchors.findLast(({ at }) => at <= this.dropped + goal);
    if (anchor ? !anchor.state : this.dropped)
      throw new Error("the state of that time is not known any more");
    const old = this.session;
    this.gates.drop(Infinity);
    old.onclosed = () => {};
    old.close().catch(() => {});
    await this.open();
    if (anchor) await this.session.restore(anchor.state);
    for (let k = anchor ? anchor.at - this.dropped : 0; k < goal; k += REPLAY_ITEMS) {
      await this.step(this.records.slice(k, Math.min(k + REPLAY_ITEMS, goal)).map((r) => r.item));
    }
  }

  /** Start again with an empty state. */
  restart() {
    return this.inOrder(async () => {
      this.records = [];
      this.anchors = [];
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
      other.anchors = [...this.anchors];
      other.gates.copyFrom(this.gates);
    });
    return other;
  }

  /** The same past read by another model or in another precision. */
  async compare(model, precision) {
    const other = new Column(this.client, model, { ...this.options, precision });
    await other.open();
    const { past } = this;
    for (let k = 0; k < past.length; k += REPLAY_ITEMS) {
      const some = past.slice(k, k + REPLAY_ITEMS);
      const notes = some.map((record) => record.note);
      await other.feed(
        some.map((record) => record.item),
        { mirrored: true, notes },
      );
    }
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
      this.anchors = [{ at: copy.steps, state: await copy.state() }];
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
    await this.replay(this.position);
    this.onchange();
  }

  close() {
    this.closing = true;
    return this.inOrder(() => this.session.close());
  }

  /** One request after the other; resolves to undefined after a problem, which is reported. */
  inOrder(work, onproblem = this.onproblem) {
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
      .catch((error) => onproblem(error));
    return this.work;
  }
}

/** Columns of the heat map of each of `count` items. */
function columnsOfItems(count, gained) {
  const { steps, items, complete } = gained ?? { steps: 0 };
  if (complete) return new Array(count).fill(steps); // the map is of the last item alone
  if (items?.length === count) return items;
  const each = Math.floor(steps / count); // one item, or a bare layer: a step of each
  return Array.from({ length: count }, (_, k) => (k < count - 1 ? each : steps - each * k));
}
