import assert from "node:assert/strict";
import { test } from "node:test";

import { FIRST_PAUSE_MS, LONGEST_PAUSE_MS, Uploader, pause, sha256 } from "./uploader.js";

const bytes = (text) => new TextEncoder().encode(text);
const busy = () => Object.assign(new Error("busy"), { temporary: true, status: 503 });
const refused = () => Object.assign(new Error("conflict"), { temporary: false, status: 409 });

/** A box that acknowledges, after the failures that a test asks for. */
function box(failures = []) {
  const stored = new Map();
  const order = [];
  const send = async (index, data) => {
    order.push(index);
    const failure = failures.shift();
    if (failure) throw failure();
    stored.set(index, data);
    return { sha256: await sha256(data) };
  };
  return { send, stored, order };
}

test("chunks arrive in order, each once, and the queue is empty afterwards", async () => {
  const { send, order } = box();
  const uploader = new Uploader({ send });
  ["a", "b", "c"].forEach((text) => uploader.add(bytes(text)));
  assert.equal(uploader.pending, 3);
  await uploader.drained();
  assert.deepEqual(order, [0, 1, 2]);
  assert.equal(uploader.pending, 0);
  assert.equal(uploader.acknowledged, 3);
});

test("a temporary failure is tried again with growing pauses, and nothing overtakes", async () => {
  const { send, order } = box([busy, busy, busy]);
  const pauses = [];
  const uploader = new Uploader({ send, sleep: async (ms) => void pauses.push(ms) });
  uploader.add(bytes("a"));
  uploader.add(bytes("b"));
  await uploader.drained();
  assert.deepEqual(order, [0, 0, 0, 0, 1]);
  assert.deepEqual(pauses, [500, 1000, 2000]);
});

test("what is pending is shown while there is trouble, and forgotten after it", async () => {
  const states = [];
  const { send } = box([busy]);
  const uploader = new Uploader({ send, sleep: async () => {}, onChange: (state) => states.push({ ...state }) });
  uploader.add(bytes("a"));
  await uploader.drained();
  assert.ok(states.some((state) => state.pending === 1 && state.trouble));
  assert.equal(states.at(-1).trouble, null);
  assert.equal(states.at(-1).pending, 0);
});

test("a lasting failure stops the queue, keeps the chunk and is reported", async () => {
  const { send, order } = box([refused]);
  const uploader = new Uploader({ send });
  uploader.add(bytes("a"));
  await assert.rejects(uploader.drained(), /conflict/);
  uploader.add(bytes("b"));
  assert.deepEqual(order, [0]);
  assert.equal(uploader.pending, 2);
});

test("an acknowledgement of other bytes is no acknowledgement", async () => {
  const uploader = new Uploader({ send: async () => ({ sha256: "0".repeat(64) }) });
  uploader.add(bytes("a"));
  await assert.rejects(uploader.drained(), { code: "ack_mismatch" });
  assert.equal(uploader.acknowledged, 0);
});

test("chunks that are added while others are on their way go out too", async () => {
  const { send, stored } = box();
  const uploader = new Uploader({ send });
  uploader.add(bytes("a"));
  await uploader.drained();
  uploader.add(bytes("b"));
  await uploader.drained();
  assert.deepEqual([...stored.keys()], [0, 1]);
});

test("an upload that goes on starts with the number that it is told", async () => {
  const { send, order } = box();
  const uploader = new Uploader({ send, first: 7 });
  uploader.add(bytes("a"));
  await uploader.drained();
  assert.deepEqual(order, [7]);
  assert.equal(uploader.total, 8);
});

test("pauses double and have an upper end", () => {
  assert.equal(pause(1), FIRST_PAUSE_MS);
  assert.equal(pause(2), 2 * FIRST_PAUSE_MS);
  assert.equal(pause(50), LONGEST_PAUSE_MS);
});

test("what is not acknowledged is kept, and let go when it is", async () => {
  const { send } = box([busy]);
  const kept = new Set();
  const keeping = { put: (index) => kept.add(index), drop: (index) => kept.delete(index) };
  let atPause = null;
  const uploader = new Uploader({ send, keeping, sleep: async () => void (atPause = [...kept]) });
  ["a", "b"].forEach((text) => uploader.add(bytes(text)));
  await uploader.drained();
  assert.deepEqual(atPause, [0, 1]);
  assert.deepEqual([...kept], []);
});
