// Run by test_client_js.py: node client_test.mjs MODULE ADDRESS PROXY_ADDRESS; prints JSON.
const [, , module, address, proxied] = process.argv;
const { Client, ProblemError } = await import(module);
const result = {};

const client = new Client(address);
result.models = (await client.models()).map(({ name }) => name);
const inputs = Array.from({ length: 12 }, (_, t) => [0.1 * t, -0.2, Math.sin(t)]);

const session = await client.open("lstm", { input: "tensors", history: 5 });
let gates = null;
session.watch((seen) => { gates = seen; });
result.fed = [];
for (const x of inputs.slice(0, 4)) result.fed.push((await session.feed(x)).y);
result.h = Array.from(gates.row(0, 0, "h"));
result.unknown_gate = gates.row(0, 0, "z") === undefined;
result.fed.push(...(await session.feedMany(inputs.slice(4, 8))).y);
const forked = await session.fork();
result.forked_steps = forked.steps;
await session.feed([9, 9, 9]);
await session.rewind(1);
result.rewound_steps = session.steps;
for (const x of inputs.slice(8)) result.fed.push((await session.feed(x)).y);
const outputs = await client.step([forked], new Float32Array(inputs[8]));
result.binary = Array.from(outputs);
const state = await forked.state();
const restored = await client.open("lstm", { input: "tensors", state });
result.restored = (await restored.feed(inputs[9])).y;
try {
  await client.open("nothing");
} catch (error) {
  result.problem = [error instanceof ProblemError, error.status, error.slug];
}
try {
  await client.step([forked, restored], new Float32Array([NaN, 0, 0, 0, 0, 0]));
} catch (error) {
  result.refused = [Array.from(error.status), error.message.includes(forked.id)];
}
await forked.close();
result.closed = await forked.feed(inputs[0]).then(() => "fed", (error) => error.message);

// Through a proxy that cuts the connection whenever it reads the word CUT on standard input.
const far = new Client(proxied);
const states = [];
let lost = () => {};
far.onconnection = (seen) => {
  states.push(seen);
  if (seen === "lost") lost();
};
const lasting = await far.open("lstm", { input: "tensors" });
result.lasting = [];
for (const [t, x] of inputs.entries()) {
  if (t % 3 === 1) {
    const cut = new Promise((done) => { lost = done; });
    console.log("CUT");
    await cut;
  }
  result.lasting.push((await lasting.feed(x)).y);
}
result.lost = states.filter((seen) => seen === "lost").length;
far.close();
result.after_close = await lasting.feed(inputs[0]).then(() => "fed", (error) => error.message);
client.close();
console.log(JSON.stringify(result));
process.exit(0);
