/*
 * Following the job: asks once a second, shows the stages, and loads the page anew when the job has ended.
 */

import { ApiError, call, showError } from "./api.js";

const ASK_MS = 1000;
const WORDS = { waiting: "Waiting", current: "In progress", done: "Done", stopped: "Stopped here", unreached: "Not reached" };

export function follow(panel) {
  const state = document.getElementById("encounter").dataset.state;
  if (state !== "queued" && state !== "running") return;
  ask(panel);
}

async function ask(panel) {
  try {
    const response = await call("GET", panel.dataset.status);
    const status = await response.json();
    showError(null);
    showState(status);
    status.stages.forEach((stage) => show(panel, stage));
    if (!status.working) {
      window.location.reload();
      return;
    }
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    showError(error);
    if (!error.temporary || error.status === 401) return;
  }
  setTimeout(() => ask(panel), ASK_MS);
}

function showState({ state, label }) {
  const badge = document.querySelector("#encounter .badge");
  if (badge.textContent === label) return;
  badge.textContent = label;
  badge.className = `badge state-${state}`;
}

function show(panel, { name, status }) {
  const line = panel.querySelector(`[data-stage="${name}"]`);
  if (!line || line.dataset.status === status) return;
  line.dataset.status = status;
  line.querySelector(".status").textContent = WORDS[status];
}
