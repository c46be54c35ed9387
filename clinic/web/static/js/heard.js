/*
 * Reading along while it is recorded: provisional text, as the box hears it.
 *
 * Rules kept here:
 *   - what is shown is marked as provisional, and leaves the page with the recording;
 *   - only new lines are asked for; a line that is shown does not change;
 *   - it is asked for only while the page is seen; what prevents it stops nothing else, and is said in one line.
 */

import { ApiError, call } from "./api.js";

export const ASK_MS = 2000;

/** The line under the text: how far behind the box is. */
export function stateOf({ listening, heardUntil, recorded }) {
  if (!listening) return "The box shows no text while it records. The recording goes on, and is heard after the end.";
  const behind = Math.round(recorded / 1000 - heardUntil);
  if (behind < 30) return "Listening…";
  return `The box is ${behind} seconds behind: it finishes other drafts first. The recording goes on.`;
}

/** Seconds as m:ss or h:mm:ss. */
export function clockOf(seconds) {
  const whole = Math.floor(seconds);
  const two = (value) => String(value).padStart(2, "0");
  const minutes = Math.floor(whole / 60);
  return minutes < 60 ? `${minutes}:${two(whole % 60)}` : `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(whole % 60)}`;
}

/** Show what is heard in `panel` until `stop()`; `elapsed()` gives the milliseconds recorded. */
export function readAlong(panel, elapsed) {
  const list = panel.querySelector("ol");
  const state = panel.querySelector("#live-state");
  let timer = 0;
  let ended = false;

  async function ask() {
    if (!document.hidden) {
      try {
        const response = await call("GET", `${panel.dataset.url}?after=${list.children.length}`);
        const { listening, heard_until: heardUntil, lines } = await response.json();
        lines.forEach((line) => list.append(item(line)));
        if (lines.length) list.scrollTop = list.scrollHeight;
        state.textContent = stateOf({ listening, heardUntil, recorded: elapsed() });
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        state.textContent = "What is heard cannot be shown now. The recording goes on.";
      }
    }
    if (!ended) timer = setTimeout(ask, ASK_MS);
  }

  panel.hidden = false;
  timer = setTimeout(ask, ASK_MS);
  return {
    stop() {
      ended = true;
      clearTimeout(timer);
      panel.hidden = true;
      list.replaceChildren();
    },
  };
}

function item({ start, text, skipped }) {
  const line = document.createElement("li");
  line.className = "segment";
  const time = document.createElement("span");
  time.className = "time";
  time.textContent = clockOf(start);
  const words = document.createElement("p");
  words.textContent = skipped ? "(not listened to here)" : text;
  words.classList.toggle("muted", Boolean(skipped));
  line.append(time, words);
  return line;
}
