import assert from "node:assert/strict";
import { test } from "node:test";

import { Latest } from "./live.js";

/** A server that answers when it is told to. */
function slow() {
  const waiting = [];
  const asked = [];
  return {
    asked,
    ask: (question) => {
      asked.push(question);
      return new Promise((resolve, reject) => waiting.push({ resolve, reject }));
    },
    answer: () => waiting.shift().resolve(),
    fail: () => waiting.shift().reject(new Error("gone")),
  };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

test("what is typed while a question is under way is asked once, in its newest form", async () => {
  const server = slow();
  const fresh = [];
  const latest = new Latest(async (question, newest) => {
    await server.ask(question);
    fresh.push([question, newest()]);
  });
  const done = latest.want("a");
  latest.want("ab");
  latest.want("abc");
  assert.deepEqual(server.asked, ["a"]);
  server.answer();
  await turn();
  assert.deepEqual(server.asked, ["a", "abc"]);
  server.answer();
  await done;
  assert.deepEqual(fresh, [["a", false], ["abc", true]]);
});

test("a question that fails does not stop the next one", async () => {
  const server = slow();
  const latest = new Latest((question) => server.ask(question));
  const done = latest.want("a");
  server.fail();
  await assert.rejects(done);
  latest.want("b");
  assert.deepEqual(server.asked, ["a", "b"]);
});
