/*
 * Notes that are read where they are listed: fetched when they are opened, and not before, for a look is recorded.
 */

import { ApiError, call, showError } from "./api.js";

for (const details of document.querySelectorAll("details[data-piece]")) {
  details.addEventListener("toggle", () => {
    if (details.open && !details.dataset.loaded) load(details);
  });
}

async function load(details) {
  const place = details.querySelector(".piece");
  details.dataset.loaded = "yes";
  try {
    const response = await call("GET", details.dataset.piece, { accept: "text/html", headers: { "X-Fragment": "note" } });
    const piece = new DOMParser().parseFromString(await response.text(), "text/html");
    place.replaceChildren(...piece.body.childNodes);
    showError(null);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    delete details.dataset.loaded; /* opened again, it is asked for again */
    details.open = false;
    showError(error);
  }
}
