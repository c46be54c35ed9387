/*
 * Capturing: record, or send a file.  Both go to the box in acknowledged chunks and end the same way.
 *
 * Rules kept here:
 *   - the page says at every moment how much the box has acknowledged;
 *   - leaving is warned about while anything is unacknowledged, and what is unacknowledged survives it, sealed;
 *   - a recording that was broken off is offered: to be used as it is, or to be gone on with where the format allows;
 *   - "complete" is sent only after the last acknowledgement, and may be sent again.
 */

import { ApiError, call, showError } from "./api.js";
import { readAlong } from "./heard.js";
import { noteActivity, setBusy } from "./idle.js";
import { openKeeping } from "./keeping.js";
import { moments } from "./moments.js";
import { Recorder, SLICE_MS, canRecord, microphoneProblem } from "./recorder.js";
import { Uploader } from "./uploader.js";

const CHUNK = 512 * 1024;
const WARN_BEFORE_MS = 5 * 60_000;
const byId = (id) => document.getElementById(id);

export function capture(panel) {
  const urls = { start: panel.dataset.start, complete: panel.dataset.complete };
  const before = panel.dataset.recording ? brokenOff(panel, urls) : null;
  recorder(urls, before, Number(panel.dataset.longest) * 1000);
  byId("upload-form").addEventListener("submit", (event) => {
    event.preventDefault();
    guarded(() => sendFile(urls, byId("upload-file").files[0]));
  });
}

async function guarded(action) {
  showError(null);
  try {
    await action();
  } catch (error) {
    showError(error instanceof ApiError || error.hint ? error : microphoneProblem(error));
  }
}

/* --- the box's side of a recording ---------------------------------------------------------------------------------- */

async function begin(urls, mime, resume, live = false) {
  const response = await call("POST", urls.start, { json: { mime, resume, live } });
  return response.json();
}

function putter(recording) {
  return async (index, bytes) => {
    const response = await call("PUT", `/recordings/${recording.id}/chunks/${index}`, {
      body: bytes,
      headers: { "Content-Type": "application/octet-stream" },
    });
    noteActivity();
    return response.json();
  };
}

async function complete(urls, chunks, keeping = null) {
  try {
    await call("POST", urls.complete, { json: { chunks } });
  } catch (error) {
    // The answer to an earlier try may have been lost: the page will show how it stands.
    if (error.code !== "step_unavailable" && error.code !== "worker_unavailable") throw error;
  }
  await keeping?.dropAll();
  setBusy(false);
  window.location.reload();
}

/* --- a recording that was broken off -------------------------------------------------------------------------------- */

/** Send what this browser still keeps of it; answers the recording, how it goes on, and what is kept. */
function brokenOff(panel, urls) {
  const ready = (async () => {
    const recording = await begin(urls, panel.dataset.recording, true);
    const keeping = await openKeeping(recording.id, recording.key);
    const first = beginning(recording.received);
    const uploader = new Uploader({ send: putter(recording), first, keeping, onChange: showSafety });
    for (const index of (await keeping?.numbers()) ?? []) {
      const bytes = index === uploader.total ? await keeping.get(index) : null;
      if (bytes) uploader.add(bytes);
      else if (index < first) await keeping.drop(index);
    }
    if (uploader.total) {
      byId("resume").hidden = false;
      setBusy(uploader.pending > 0);
      const sent = uploader.total - first;
      await uploader.drained();
      setBusy(false);
      byId("resume-count").textContent = `${uploader.total} pieces of it are stored safely${sent ? `; ${sent} of them were still kept, sealed, in this browser` : ""}.`;
      byId("resume-go-on").hidden = !panel.dataset.recording.startsWith("audio/webm") || !canRecord(panel.dataset.recording);
      byId("resume-finish").disabled = byId("resume-go-on").disabled = false;
    }
    return { recording, keeping, uploader };
  })();
  ready.catch((error) => guarded(() => Promise.reject(error)));
  byId("resume-finish").addEventListener("click", () =>
    guarded(async () => {
      const { uploader, keeping } = await ready;
      await uploader.drained();
      await complete(urls, uploader.total, keeping);
    }),
  );
  return ready;
}

/* --- recording ------------------------------------------------------------------------------------------------------ */

const PHASES = {
  idle: "Ready. The browser will ask for the microphone.",
  testing: "Testing. Nothing is recorded: say a few words and watch the bar.",
  asking: "Waiting for the microphone…",
  recording: "Recording",
  paused: "Paused. Nothing is recorded.",
  stopping: "Finishing…",
  stopped: "Recorded. Sending the rest…",
};
const SHOWN = {
  "record-start": ["idle", "testing"],
  "record-test": ["idle"],
  "record-test-end": ["testing"],
  "record-pause": ["recording"],
  "record-resume": ["paused"],
  "record-stop": ["recording", "paused"],
};

function recorder(urls, before, longest) {
  const panel = byId("recorder");
  let uploader = null;
  let keeping = null;
  let lock = null;
  let reading = null;
  const noted = moments(byId("moments"), () => machine.total);
  let queue = Promise.resolve();
  const machine = new Recorder({
    onData: (blob) => {
      queue = queue.then(() => addPieces(uploader, blob));
    },
    onPhase: (phase) => {
      showPhase(panel, phase);
      byId("moments").hidden = !["recording", "paused"].includes(phase);
      if (phase === "stopped") guarded(finish);
    },
    onLevel: (level, silent, clipping) => {
      byId("level").value = level;
      byId("silence").hidden = !silent;
      byId("clipping").hidden = !clipping;
      byId("elapsed").textContent = clock(machine.total);
      byId("too-long").hidden = machine.total < longest - WARN_BEFORE_MS;
    },
  });

  async function start() {
    await machine.start(async (mime) => {
      const recording = await begin(urls, mime, false, true);
      await (await before?.catch(() => null))?.keeping?.dropAll(); // of the recording that does not count any more
      keeping = await openKeeping(recording.id, recording.key);
      uploader = new Uploader({ send: putter(recording), onChange: showSafety, keeping });
    });
    await started();
  }

  async function goOn() {
    await machine.start(async (mime) => {
      const known = await before;
      await begin(urls, mime, true, true);
      ({ uploader, keeping } = known);
      machine.earlier = uploader.total * SLICE_MS;
    });
    await started();
  }

  async function started() {
    setBusy(true);
    byId("resume")?.remove();
    reading = readAlong(byId("live"), () => machine.total);
    await stayAwake();
  }

  async function stayAwake() {
    lock = await navigator.wakeLock?.request("screen").catch(() => null);
  }

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && ["recording", "paused"].includes(machine.phase)) stayAwake(); // it is lost when hidden
  });

  async function finish() {
    lock?.release();
    reading?.stop();
    await queue;
    await uploader.drained();
    await noted.drained();
    await complete(urls, uploader.total, keeping);
  }

  byId("resume-go-on")?.addEventListener("click", () => guarded(goOn));
  byId("record-test").addEventListener("click", () => guarded(() => machine.test()));
  byId("record-test-end").addEventListener("click", () => machine.endTest());
  byId("record-start").addEventListener("click", () => guarded(start));
  byId("record-pause").addEventListener("click", () => machine.pause());
  byId("record-resume").addEventListener("click", () => machine.resume());
  byId("record-stop").addEventListener("click", () => machine.stop());
  byId("record-start").disabled = byId("record-test").disabled = false; // until here a click would have been lost
}

async function addPieces(uploader, blob) {
  for (let at = 0; at < blob.size; at += CHUNK) {
    uploader.add(new Uint8Array(await blob.slice(at, at + CHUNK).arrayBuffer()));
  }
}

function showPhase(panel, phase) {
  panel.dataset.phase = phase;
  byId("recorder-state").textContent = PHASES[phase];
  for (const [id, phases] of Object.entries(SHOWN)) {
    const had = document.activeElement === byId(id);
    byId(id).hidden = !phases.includes(phase);
    if (had && byId(id).hidden) panel.querySelector("button:not([hidden])")?.focus();
  }
  if (phase !== "recording" && phase !== "testing") byId("silence").hidden = byId("clipping").hidden = true;
  if (phase === "idle") byId("level").value = 0;
}

function showSafety({ pending, acknowledged, trouble, error }) {
  const line = byId("safety");
  const parts = [`${acknowledged} pieces stored on the box`];
  if (pending) parts.push(`${pending} on the way`);
  line.classList.toggle("warn", Boolean(trouble));
  if (trouble?.status === 401) parts.push("you are signed out: sign in again in another tab, and this goes on");
  else if (trouble) parts.push(`${trouble.message}: trying again; keep this page open`);
  line.textContent = `${parts.join(", ")}.`;
  line.dataset.pending = pending;
  line.dataset.acknowledged = acknowledged;
  if (error) showError(error);
}

export function clock(ms) {
  const seconds = Math.floor(ms / 1000);
  const two = (value) => String(value).padStart(2, "0");
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.floor(seconds / 60) % 60;
  return hours ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
}

/* --- a file --------------------------------------------------------------------------------------------------------- */

async function sendFile(urls, file) {
  if (!file?.size) throw new ApiError("the file is empty", { code: "audio_empty", hint: "choose another file" });
  byId("upload-submit").disabled = true;
  setBusy(true);
  try {
    const recording = await begin(urls, file.type || "application/octet-stream", true);
    try {
      await sendChunks(urls, file, recording);
    } catch (error) {
      // What the box holds is of another file: begin anew.
      if (error.code !== "record_conflict" || !recording.received.length) throw error;
      await sendChunks(urls, file, await begin(urls, file.type || "application/octet-stream", false));
    }
  } finally {
    setBusy(false);
    byId("upload-submit").disabled = false;
  }
}

async function sendChunks(urls, file, recording) {
  const send = putter(recording);
  const chunks = Math.ceil(file.size / CHUNK);
  const piece = async (index) => new Uint8Array(await file.slice(index * CHUNK, (index + 1) * CHUNK).arrayBuffer());
  // The chunk before the gap is sent again: the box refuses it unless this is the same file.
  const first = Math.max(0, Math.min(beginning(recording.received), chunks) - 1);
  const uploader = new Uploader({ send, first, onChange: (state) => showUpload(state, chunks) });
  for (let index = first; index < chunks; index += 1) {
    uploader.add(await piece(index));
    await uploader.drained();
  }
  await complete(urls, chunks);
}

/** How many chunks there are from 0 on without a gap. */
export function beginning(received) {
  const gap = received.findIndex((number, place) => number !== place);
  return gap === -1 ? received.length : gap;
}

function showUpload({ acknowledged, trouble }, chunks) {
  const bar = byId("upload-progress");
  const line = byId("upload-state");
  bar.hidden = line.hidden = false;
  bar.value = acknowledged / chunks;
  line.textContent = trouble
    ? `${trouble.message}: trying again; keep this page open.`
    : `${acknowledged} of ${chunks} pieces stored on the box.`;
}
