/*
 * Marks and typed notes while it is recorded.
 *
 * Rules kept here:
 *   - each has its time in the recording, taken when it is made, not when it is stored;
 *   - each is tried again until the box has it, under the same id, so that it is there once; the end waits for them;
 *   - what is not stored yet says so.
 */

import { call, showError } from "./api.js";
import { clockOf } from "./heard.js";
import { Uploader } from "./uploader.js";

/** Let moments be made in `form`; `elapsed()` gives the milliseconds recorded. */
export function moments(form, elapsed) {
  const list = document.getElementById("moment-list");
  const text = form.querySelector("input");
  const lines = [];
  const uploader = new Uploader({
    send: async (index, moment) => {
      await call("POST", form.dataset.url, { json: moment });
      lines[index].querySelector(".muted").remove();
      return {};
    },
    digest: async () => null,
    onChange: ({ error }) => error && showError(error),
  });

  function add(words) {
    const at = elapsed() / 1000;
    const line = document.createElement("li");
    const time = document.createElement("span");
    const waiting = document.createElement("span");
    time.className = "time";
    time.textContent = clockOf(at);
    waiting.className = "muted small";
    waiting.textContent = " not stored yet";
    line.append(time, ` ${words || "Marked"}`, waiting);
    list.append(line);
    lines.push(line);
    uploader.add({ id: crypto.randomUUID().replaceAll("-", ""), at, text: words });
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const words = text.value.trim();
    if (!words) return;
    add(words);
    text.value = "";
  });
  form.querySelector("#moment-mark").addEventListener("click", () => add(""));
  return uploader;
}
