import assert from "node:assert/strict";
import { test } from "node:test";

import { Recorder, TRANSITIONS, microphoneProblem, next } from "./recorder.js";

test("a recording starts, pauses, goes on and stops", () => {
  const events = ["start", "granted", "pause", "resume", "stop", "ended"];
  const phases = events.reduce((passed, event) => [...passed, next(passed.at(-1), event)], ["idle"]);
  assert.deepEqual(phases, ["idle", "asking", "recording", "paused", "recording", "stopping", "stopped"]);
});

test("an event that has no place changes nothing", () => {
  assert.equal(next("idle", "stop"), "idle");
  assert.equal(next("asking", "start"), "asking");
  assert.equal(next("recording", "start"), "recording");
  assert.equal(next("stopped", "start"), "stopped");
});

test("a refused microphone leads back to the beginning", () => {
  assert.equal(next("asking", "refused"), "idle");
});

test("a microphone that is unplugged ends the recording and keeps what there is", () => {
  assert.equal(next("recording", "broke"), "stopping");
  assert.equal(next("paused", "broke"), "stopping");
});

test("every phase that can be reached is in the table", () => {
  for (const phase of Object.values(TRANSITIONS).flatMap(Object.values)) assert.ok(phase in TRANSITIONS);
});

/** A browser with one microphone, as far as the recorder needs it. */
function fakeBrowser() {
  const made = { recorder: null, stopped: 0 };
  const track = { stop: () => (made.stopped += 1), addEventListener: () => {} };
  class FakeRecorder extends EventTarget {
    static isTypeSupported = (type) => type.startsWith("audio/webm");
    state = "inactive";
    constructor() {
      super();
      made.recorder = this;
    }
    start() { this.state = "recording"; }
    pause() { this.state = "paused"; }
    resume() { this.state = "recording"; }
    stop() {
      this.state = "inactive";
      this.piece("last");
      this.dispatchEvent(new Event("stop"));
    }
    piece(data) { this.dispatchEvent(Object.assign(new Event("dataavailable"), { data: new Blob([data]) })); }
  }
  globalThis.MediaRecorder = FakeRecorder;
  globalThis.AudioContext = class {
    createAnalyser() { return { getFloatTimeDomainData: () => {} }; }
    createMediaStreamSource() { return { connect: () => {} }; }
    close() {}
  };
  const mediaDevices = { getUserMedia: async () => ({ getTracks: () => [track], getAudioTracks: () => [track] }) };
  Object.defineProperty(globalThis, "navigator", { value: { mediaDevices }, configurable: true });
  return made;
}

function recorder() {
  const seen = { phases: [], pieces: [] };
  const machine = new Recorder({
    onData: (blob) => seen.pieces.push(blob.size),
    onPhase: (phase) => seen.phases.push(phase),
    onLevel: () => {},
  });
  return { machine, seen };
}

test("the last piece comes before `stopped`, and the microphone is released", async () => {
  const made = fakeBrowser();
  const { machine, seen } = recorder();
  await machine.start(async () => {});
  made.recorder.piece("one");
  machine.stop();
  machine.stop();
  assert.deepEqual(seen.phases, ["asking", "recording", "stopping", "stopped"]);
  assert.deepEqual(seen.pieces, [3, 4]);
  assert.equal(made.stopped, 1);
});

test("when the box refuses to begin, nothing is recorded and the microphone is released", async () => {
  const made = fakeBrowser();
  const { machine, seen } = recorder();
  await assert.rejects(machine.start(async () => { throw new Error("no consent"); }), /no consent/);
  assert.deepEqual(seen.phases, ["asking", "idle"]);
  assert.equal(made.stopped, 1);
  assert.equal(made.recorder, null);
});

test("every way in which a microphone is missing has words and a next step", () => {
  for (const name of ["NotAllowedError", "NotFoundError", "NotReadableError", "InsecureContext", "Anything"]) {
    const problem = microphoneProblem({ name });
    assert.ok(problem.message && problem.hint);
  }
});

test("a test of the microphone records nothing, and a recording may begin out of it", async () => {
  const made = fakeBrowser();
  const { machine, seen } = recorder();
  await machine.test();
  assert.equal(made.recorder, null);
  machine.endTest();
  assert.equal(made.stopped, 1);
  await machine.test();
  await machine.start(async () => {});
  assert.equal(made.stopped, 2);
  machine.stop();
  assert.deepEqual(seen.phases, ["testing", "idle", "testing", "asking", "recording", "stopping", "stopped"]);
});

test("what was recorded by an earlier page counts in the time, once", async () => {
  fakeBrowser();
  const { machine } = recorder();
  machine.earlier = 60_000;
  await machine.start(async () => {});
  machine.pause();
  machine.resume();
  machine.stop();
  assert.ok(machine.total >= 60_000 && machine.total < 61_000);
});
