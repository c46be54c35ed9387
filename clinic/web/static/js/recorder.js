/*
 * The microphone.
 *
 * Rules kept here:
 *   - what may happen next is one table (`TRANSITIONS`); anything else is ignored, so double clicks do no harm;
 *   - sound leaves the recorder every two seconds, in order, and the last piece before `stopped`;
 *   - the microphone is released whenever recording ends, for whatever reason;
 *   - it shows its level, and says when it hears nothing, or when it is too loud;
 *   - a test of the microphone records nothing, and ends by itself.
 */

export const SLICE_MS = 2000;
export const SILENCE_AFTER_MS = 8000;
const SILENCE_LEVEL = 0.012;
const LEVEL_MS = 100;
const LOUDEST = 0.985;
const CLIPS = 3;
export const CLIPPING_SHOWN_MS = 4000;
export const TEST_MS = 20_000;
const TYPES = ["audio/webm;codecs=opus", "audio/ogg;codecs=opus", "audio/mp4", "audio/webm"];

export const TRANSITIONS = {
  idle: { start: "asking", test: "testing" },
  testing: { start: "asking", enough: "idle", refused: "idle" },
  asking: { granted: "recording", refused: "idle" },
  recording: { pause: "paused", stop: "stopping", broke: "stopping" },
  paused: { resume: "recording", stop: "stopping", broke: "stopping" },
  stopping: { ended: "stopped" },
  stopped: {},
};

/** The phase after `event`, or the same one if the event has no place here. */
export function next(phase, event) {
  return TRANSITIONS[phase][event] ?? phase;
}

/** Whether this browser records in a format, and would choose it. */
export function canRecord(mime) {
  return Boolean(globalThis.MediaRecorder) && TYPES.find((type) => MediaRecorder.isTypeSupported(type)) === mime;
}

/** The words for a microphone that could not be had. */
export function microphoneProblem(error) {
  const known = {
    NotAllowedError: ["the browser was not allowed to use the microphone", "allow it in the address bar, then start again"],
    NotFoundError: ["no microphone was found", "plug one in, then start again"],
    NotReadableError: ["the microphone is used by another program", "close that program, then start again"],
    InsecureContext: ["the browser allows the microphone only on a trusted page", "install the certificate: see “Trust this box” below"],
  };
  const [message, hint] = known[error.name] ?? ["the microphone cannot be used", "try another browser or device, or upload a file"];
  return { code: "microphone", message, hint };
}

export class Recorder {
  phase = "idle";
  mime = "";
  #stream = null;
  #recorder = null;
  #context = null;
  #meter = 0;
  #before = 0;
  #since = null;
  #heard = 0;
  #clips = 0;
  #clipped = -Infinity;
  #testEnd = 0;

  /**
   * @param {object} hooks
   * @param {(blob: Blob) => void} hooks.onData a piece of sound
   * @param {(phase: string) => void} hooks.onPhase after every change of phase
   * @param {(level: number, silent: boolean, clipping: boolean) => void} hooks.onLevel ten times a second
   */
  constructor({ onData, onPhase, onLevel }) {
    this.onData = onData;
    this.onPhase = onPhase;
    this.onLevel = onLevel;
  }

  /** Milliseconds recorded by an earlier page of the same recording, about. */
  earlier = 0;

  /** Milliseconds recorded in all. */
  get total() {
    return this.earlier + this.elapsed;
  }

  /** Milliseconds recorded here so far, pauses left out. */
  get elapsed() {
    return this.#before + (this.#since === null ? 0 : performance.now() - this.#since);
  }

  /** Ask for the microphone; `begin(mime)` runs before the first piece, and may refuse by throwing. */
  async start(begin) {
    const testing = this.phase === "testing";
    if (!this.#go("start")) return;
    if (testing) this.#release();
    try {
      await this.#open();
      this.mime = TYPES.find((type) => MediaRecorder.isTypeSupported(type)) ?? "audio/webm";
      await begin(this.mime);
      this.#listen();
    } catch (error) {
      this.#release();
      this.#go("refused");
      throw error;
    }
    this.#since = performance.now();
    this.#heard = performance.now();
    this.#go("granted");
  }

  /** Listen for a while without recording. */
  async test() {
    if (!this.#go("test")) return;
    try {
      await this.#open();
      if (this.phase !== "testing") return;
      this.#heard = performance.now();
      this.#measure();
      this.#testEnd = setTimeout(() => this.endTest(), TEST_MS);
    } catch (error) {
      this.#release();
      this.#go("refused");
      throw error;
    }
  }

  endTest() {
    if (this.#go("enough")) this.#release();
  }

  async #open() {
    if (!navigator.mediaDevices?.getUserMedia) throw Object.assign(new Error(), { name: "InsecureContext" });
    this.#stream = await navigator.mediaDevices.getUserMedia({
      audio: { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true },
    });
  }

  pause() {
    if (!this.#go("pause")) return;
    this.#stopClock();
    this.#recorder.pause();
  }

  resume() {
    if (!this.#go("resume")) return;
    this.#recorder.resume();
    this.#since = performance.now();
    this.#heard = performance.now();
  }

  stop() {
    this.#finish("stop");
  }

  #listen() {
    this.#recorder = new MediaRecorder(this.#stream, { mimeType: this.mime, audioBitsPerSecond: 32_000 });
    this.#recorder.addEventListener("dataavailable", ({ data }) => data.size && this.onData(data));
    this.#recorder.addEventListener("stop", () => {
      this.#release();
      this.#finish("broke");
      this.#go("ended");
    });
    this.#stream.getAudioTracks()[0].addEventListener("ended", () => this.#finish("broke"));
    this.#measure();
    this.#recorder.start(SLICE_MS);
  }

  #finish(event) {
    if (!this.#go(event)) return;
    this.#stopClock();
    if (this.#recorder.state !== "inactive") this.#recorder.stop();
  }

  #stopClock() {
    this.#before = this.elapsed;
    this.#since = null;
  }

  #measure() {
    this.#context = new AudioContext();
    const analyser = this.#context.createAnalyser();
    analyser.fftSize = 1024;
    this.#context.createMediaStreamSource(this.#stream).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    this.#meter = setInterval(() => {
      analyser.getFloatTimeDomainData(samples);
      const level = Math.sqrt(samples.reduce((sum, value) => sum + value * value, 0) / samples.length);
      const now = performance.now();
      if (level > SILENCE_LEVEL || this.phase === "paused") this.#heard = now;
      this.#clips = samples.some((value) => Math.abs(value) >= LOUDEST) ? this.#clips + 1 : 0;
      if (this.#clips >= CLIPS) this.#clipped = now;
      const silentAfter = this.phase === "testing" ? SILENCE_AFTER_MS / 2 : SILENCE_AFTER_MS;
      this.onLevel(Math.min(1, level * 4), now - this.#heard > silentAfter, now - this.#clipped < CLIPPING_SHOWN_MS);
    }, LEVEL_MS);
  }

  #release() {
    clearInterval(this.#meter);
    clearTimeout(this.#testEnd);
    this.#stream?.getTracks().forEach((track) => track.stop());
    this.#context?.close();
    this.#context = null;
  }

  #go(event) {
    const phase = next(this.phase, event);
    if (phase === this.phase) return false;
    this.phase = phase;
    this.onPhase(phase);
    return true;
  }
}
