/*
 * Reviewing: a statement on one side, what was said on the other.
 *
 * Rules kept here:
 *   - choosing a statement marks its segments and words and plays its seconds, with a little around
 *     them so that the first and last word can be understood;
 *   - what is copied from a draft says that it is one, and whose;
 *   - decisions are the page's own forms, sent in the background; the answer is the note, drawn by the server;
 *   - a refused decision changes nothing on the page but the error box;
 *   - words that are typed and not saved outlive every redrawing (`typed.js`); nothing is signed beside them.
 */

import { ApiError, call, showError } from "./api.js";
import { checklist, goOn, placeOf } from "./checklist.js";
import { live } from "./live.js";
import { restore, unsaved } from "./typed.js";

const AROUND_S = 0.5;
const LONGEST_CLIP_S = 120;
const INTERACTIVE = "button, a, input, select, textarea, label, summary, form.edit";

/** @param {HTMLElement} transcript the list of segments */
export function review(transcript) {
  const playback = new Playback(transcript);
  const note = document.getElementById("note");
  transcript.addEventListener("click", (event) => {
    const segment = event.target.closest("[data-play]")?.closest(".segment");
    if (!segment) return;
    mark(transcript, [{ segment: segment.dataset.segment }]);
    playback.play([span(segment)]);
  });
  if (!note) return;
  note.addEventListener("click", (event) => choose(event, { note, transcript, playback }));
  note.addEventListener("submit", (event) => submit(event, note));
  live(note);
  checklist(note, (item) => look(item, note, transcript));
  note.addEventListener("copy", (event) => copy(event, document.getElementById("review").dataset.copied));
}

/* --- evidence ------------------------------------------------------------------------------------------------------- */

function choose(event, { note, transcript, playback }) {
  if (event.target.closest("[data-edit], [data-cancel]")) {
    toggleEdit(event.target);
    return;
  }
  const statement = event.target.closest("[data-evidence]");
  if (!statement || (event.target.closest(INTERACTIVE) && !event.target.closest("[data-evidence-button]"))) return;
  const evidence = look(statement, note, transcript);
  playback.play(evidence.map((item) => padded(seconds(transcript, item), duration(transcript))).filter(Boolean));
}

/** Choose a statement or an omission and mark what was said of it; returns its evidence. */
function look(statement, note, transcript) {
  note.querySelectorAll(".chosen").forEach((other) => other.classList.remove("chosen"));
  statement.classList.add("chosen");
  const evidence = JSON.parse(statement.dataset.evidence);
  mark(transcript, evidence);
  return evidence;
}

function segmentOf(transcript, id) {
  return transcript.querySelector(`[data-segment="${CSS.escape(id)}"]`);
}

function span(element) {
  return element.dataset.start === undefined
    ? null
    : { start: Number(element.dataset.start), end: Number(element.dataset.end) };
}

function seconds(transcript, { segment, start, end }) {
  if (start != null && end != null) return { start, end };
  const element = segmentOf(transcript, segment);
  return element && span(element);
}

function duration(transcript) {
  return transcript.dataset.duration === undefined ? Infinity : Number(transcript.dataset.duration);
}

/** Half a second more on either side, within the recording and within what the box plays at a time. */
export function padded(stretch, end) {
  if (!stretch) return null;
  const start = Math.max(0, stretch.start - AROUND_S);
  const last = Math.max(stretch.end, Math.min(end, stretch.end + AROUND_S));
  return { start, end: Math.min(last, start + LONGEST_CLIP_S) };
}

/** Mark the segments of some evidence and, where it names seconds, the words inside them. */
function mark(transcript, evidence) {
  transcript.querySelectorAll(".marked").forEach((element) => element.classList.remove("marked"));
  for (const { segment, start, end } of evidence) {
    const element = segmentOf(transcript, segment);
    if (!element) continue;
    element.classList.add("marked");
    for (const word of element.querySelectorAll(".word")) {
      const at = span(word);
      const inside = start == null || !at || (at.end > start && at.start < end);
      word.classList.toggle("marked", inside);
    }
  }
  segmentOf(transcript, evidence[0]?.segment ?? "")?.scrollIntoView({ block: "nearest", behavior: "smooth" });
}

/** Plays stretches of the recording one after the other, and marks the word that is heard. */
class Playback {
  #queue = [];
  #offset = 0;

  constructor(transcript) {
    this.transcript = transcript;
    this.url = transcript.dataset.audio;
    this.player = document.getElementById("player");
    this.player?.addEventListener("ended", () => this.#next());
    this.player?.addEventListener("timeupdate", () => this.#follow());
    this.player?.addEventListener("error", () => {
      if (this.player.getAttribute("src")) showError(new ApiError("these seconds cannot be played", { code: "audio" }));
    });
  }

  play(spans) {
    if (!this.player || !spans.length || spans.includes(null)) return;
    this.#queue = [...spans];
    this.#next();
  }

  #next() {
    const stretch = this.#queue.shift();
    if (!stretch) {
      this.#speak(null);
      return;
    }
    this.#offset = stretch.start;
    this.player.src = `${this.url}?start=${stretch.start.toFixed(2)}&end=${stretch.end.toFixed(2)}`;
    this.player.play().catch(() => {
      /* the browser wants a gesture first: the controls are there */
    });
  }

  #follow() {
    const now = this.#offset + this.player.currentTime;
    const words = [...this.transcript.querySelectorAll(".word[data-start]")];
    this.#speak(words.find((word) => Number(word.dataset.start) <= now && now < Number(word.dataset.end)));
  }

  #speak(word) {
    this.transcript.querySelectorAll(".heard").forEach((element) => element.classList.remove("heard"));
    word?.classList.add("heard");
  }
}

/** Put who and what before words that are copied from the draft; what is copied inside a field stays as it is. */
function copy(event, head) {
  const words = getSelection().toString();
  if (event.target.closest?.("textarea, input") || !words) return;
  event.preventDefault();
  event.clipboardData.setData("text/plain", `${head}\n\n${words}`);
}

/* --- decisions ------------------------------------------------------------------------------------------------------ */

function toggleEdit(target) {
  const statement = target.closest(".statement");
  const form = statement.querySelector("form.edit");
  form.hidden = !form.hidden;
  statement.querySelector("[data-edit]").setAttribute("aria-expanded", String(!form.hidden));
  if (form.hidden) statement.querySelector("[data-edit]").focus();
  else writeOn(form.querySelector("textarea"));
}

/** Begin to write where the words end. */
function writeOn(field) {
  field.focus();
  field.setSelectionRange(field.value.length, field.value.length);
}

async function submit(event, note) {
  const form = event.target;
  if (form.dataset.enhance === undefined) return;
  event.preventDefault();
  const reload = form.dataset.enhance === "reload";
  if (reload && unsaved(note).length) {
    showError(new ApiError("words are typed and not saved", { code: "unsaved", hint: "save or cancel them, then sign" }));
    return;
  }
  /* a flag that was decided, or edited by keyboard alone: the next one follows */
  const goes = document.activeElement?.matches("[data-item], [data-decide], [data-item] [data-live]");
  const step = goes ? placeOf(note, form) : null;
  const buttons = [...form.querySelectorAll("button")];
  buttons.forEach((button) => (button.disabled = true));
  try {
    const headers = { "X-Fragment": "note" };
    const response = await call("POST", form.action, { body: new FormData(form), headers, accept: "text/html" });
    showError(null);
    if (reload) window.location.reload();
    else redraw(note, await response.text(), { place: form.closest(".statement")?.id, kept: others(note, form), step });
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    buttons.forEach((button) => (button.disabled = false));
    if (error.code === "record_conflict") await renew(note, form);
    else showError(error);
  }
}

/** What is typed in the other forms: what this one held is saved. */
function others(note, form) {
  const saved = form.querySelector("[data-live]")?.dataset.live;
  return unsaved(note).filter((item) => item.statement !== saved);
}

/** The note has moved on, in another tab or by another program: show how it is now, and what is typed here in it. */
async function renew(note, form) {
  try {
    const response = await call("GET", note.dataset.draft, { accept: "text/html", headers: { "X-Fragment": "note" } });
    const kept = unsaved(note);
    redraw(note, await response.text(), { place: form.closest(".statement")?.id, kept });
    const hint = kept.length ? "your words are kept; look at what stands there now, then save again" : "look again";
    showError(new ApiError("the note was changed meanwhile, in another tab or by another program", { code: "", hint }));
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    showError(error);
  }
}

/** Draw the note anew and keep the place on the page and the focus where they were. */
function redraw(note, html, { place, kept, step = null }) {
  const piece = new DOMParser().parseFromString(html, "text/html");
  note.replaceChildren(...piece.body.childNodes);
  const statement = place && document.getElementById(place);
  const target = statement?.querySelector("[data-edit], button") ?? note.querySelector("h2");
  if (!statement) target.tabIndex = -1;
  if (step === null || !goOn(note, step)) target.focus({ preventScroll: true });
  restore(note, kept);
}
