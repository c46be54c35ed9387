import assert from "node:assert/strict";
import test from "node:test";
import { answer, bytes, options, text } from "./passkey.js";

test("bytes survive the way to text and back, whatever they are", () => {
  for (let length = 0; length < 70; length += 1) {
    const all = Uint8Array.from({ length }, (_, index) => (index * 73 + length) % 256);
    assert.deepEqual(bytes(text(all)), all);
    assert.match(text(all), /^[A-Za-z0-9_-]*$/);
  }
});

test("options become bytes where the browser wants bytes, and nothing else changes", () => {
  const made = options({
    challenge: "AQI",
    rp: { id: "clinic.lan" },
    user: { id: "AwQ", name: "ann" },
    excludeCredentials: [{ id: "BQY", type: "public-key" }],
  });
  assert.deepEqual([...made.challenge, ...made.user.id, ...made.excludeCredentials[0].id], [1, 2, 3, 4, 5, 6]);
  assert.equal(made.user.name, "ann");
  assert.equal(made.rp.id, "clinic.lan");
  assert.equal("allowCredentials" in made, false);
});

test("an answer holds what was given and leaves out what was not", () => {
  const raw = Uint8Array.of(1, 2).buffer;
  const made = answer({ id: "AQI", rawId: raw, type: "public-key", response: { clientDataJSON: raw, userHandle: null } });
  assert.deepEqual(made.response, { clientDataJSON: "AQI" });
  assert.equal(made.rawId, "AQI");
});
