/*
 * Signing out of an unattended screen.
 *
 * Rules kept here:
 *   - the server ends the session; this page only leaves in time, so that no patient stays on the screen;
 *   - typing and pointing count as activity and are reported at most once a minute;
 *   - what is typed and not saved goes with the page, for it may not stay on the screen: the warning says so;
 *   - a page that records or uploads says so (`busy`): it warns, and does not leave.
 */

import { call } from "./api.js";

const REPORT_MS = 60_000;
const WARN_MS = 60_000;
let reported = Date.now();
let active = Date.now();
let busy = false;
let leaving = false;

/** Say that leaving the page now would lose something (or no longer). */
export function setBusy(value) {
  busy = value;
}

/** Whether this page is being left because nobody is there: nothing may hold it back. */
export function isLeaving() {
  return leaving;
}

/** Count this moment as activity. */
export function noteActivity() {
  active = Date.now();
}

window.addEventListener("beforeunload", (event) => {
  if (busy) event.preventDefault();
});

function begin({ idleSeconds, login, touch }) {
  const limit = Number(idleSeconds) * 1000;
  const warning = document.getElementById("idle-warning");
  const report = async () => {
    reported = Date.now();
    try {
      await call("POST", touch);
    } catch {
      /* the next request says what is wrong */
    }
  };
  const stay = () => {
    noteActivity();
    warning.hidden = true;
    report();
  };
  for (const name of ["pointerdown", "keydown", "input"]) {
    document.addEventListener(name, noteActivity, { passive: true, capture: true });
  }
  warning.querySelector("button").addEventListener("click", stay);
  setInterval(() => {
    const idle = Date.now() - active;
    if (active > reported && Date.now() - reported > REPORT_MS) report();
    warning.hidden = idle < limit - WARN_MS;
    if (idle >= limit && !busy) {
      leaving = true;
      window.location.assign(`${login}?idle=1`);
    }
  }, 1000);
}

if (document.body.dataset.idleSeconds) begin(document.body.dataset);
