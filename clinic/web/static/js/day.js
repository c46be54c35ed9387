/*
 * The list of the day: kept up to date while it is looked at.
 *
 * Rules kept here:
 *   - states and places change in their rows; nothing moves under the finger: what came or went is offered by a button;
 *   - names are fetched only when somebody asks for the list, for that look is recorded;
 *   - a page that nobody sees asks nothing; one that cannot be kept up to date says so.
 */

import { ApiError, call, showError } from "./api.js";

const ASK_MS = 4000;
const list = document.getElementById("day");
const fresh = document.getElementById("day-fresh");
const button = document.getElementById("day-show");

button.addEventListener("click", async () => {
  button.disabled = true;
  try {
    const response = await call("GET", list.dataset.list, { accept: "text/html", headers: { "X-Fragment": "day" } });
    const piece = new DOMParser().parseFromString(await response.text(), "text/html");
    list.replaceChildren(...piece.body.childNodes);
    offer(false);
    showError(null);
    list.querySelector("a")?.focus();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    showError(error);
  } finally {
    button.disabled = false;
  }
});

async function ask() {
  try {
    if (!document.hidden) show((await (await call("GET", list.dataset.state)).json()).encounters);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    say(error.status === 401 ? "Not up to date: you are signed out." : "Not up to date: the box cannot be asked.");
    if (error.status === 401) return;
  }
  setTimeout(ask, ASK_MS);
}

function show(encounters) {
  const rows = new Map([...list.querySelectorAll("[data-encounter]")].map((row) => [row.dataset.encounter, row]));
  let moved = encounters.length !== rows.size;
  for (const { id, state, label, place } of encounters) {
    const row = rows.get(id);
    if (!row) moved = true;
    else if (row.dataset.state !== state || row.querySelector("[data-place]").textContent !== place) {
      const badge = row.querySelector(".badge");
      badge.textContent = label;
      badge.className = `badge state-${state}`;
      row.querySelector("[data-place]").textContent = place;
      row.dataset.state = state;
    }
  }
  offer(moved);
  say(moved ? "The list has changed." : "Up to date.");
}

/** Its place is kept free, so that nothing moves when it appears. */
function offer(visible) {
  button.classList.toggle("invisible", !visible);
}

function say(words) {
  if (fresh.textContent !== words) fresh.textContent = words;
}

setTimeout(ask, ASK_MS);
