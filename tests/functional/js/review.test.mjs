import assert from "node:assert/strict";
import { test } from "node:test";

import { padded } from "./review.js";

test("a stretch is played with half a second on either side", () => {
  assert.deepEqual(padded({ start: 9, end: 12 }, 28), { start: 8.5, end: 12.5 });
});

test("nothing is asked for before the beginning, after the end, or longer than the box plays", () => {
  assert.deepEqual(padded({ start: 0.25, end: 27.75 }, 28), { start: 0, end: 28 });
  assert.deepEqual(padded({ start: 1, end: 28.2 }, 28), { start: 0.5, end: 28.2 });
  assert.deepEqual(padded({ start: 10, end: 130 }, Infinity), { start: 9.5, end: 129.5 });
});

test("what has no seconds is not played", () => {
  assert.equal(padded(null, 28), null);
  assert.equal(padded(undefined, 28), null);
});
