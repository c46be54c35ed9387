/*
 * Live checking: what verification says of a sentence while it is typed.
 *
 * Rules kept here:
 *   - a sentence is asked about when typing pauses, one question at a time, and only the newest words count;
 *   - the answer is what saving would give; it is shown beside the field and nowhere kept;
 *   - where it cannot be had, the field says so, and typing and saving go on as before.
 */

import { ApiError, call } from "./api.js";

const PAUSE_MS = 250;
const UNCHECKED = "Not checked while you type; it is checked when you save.";

/** @param {HTMLElement} note the pane whose fields with `data-live` are checked */
export function live(note) {
  const fields = new WeakMap();
  const of = (field) => {
    if (!fields.has(field)) fields.set(field, new Field(field, note.dataset.check));
    return fields.get(field);
  };
  note.addEventListener("input", (event) => {
    const field = event.target.closest("form")?.querySelector("[data-live]");
    if (field) of(field).typed();
  });
  note.addEventListener("reset", (event) => {
    const field = event.target.querySelector("[data-live]");
    if (field) of(field).clear();
  });
}

/** Asks one question at a time, and after it the newest one that came meanwhile. */
export class Latest {
  #wanted = null;
  #busy = false;

  constructor(ask) {
    this.ask = ask;
  }

  async want(question) {
    this.#wanted = question;
    if (this.#busy) return;
    this.#busy = true;
    try {
      while (this.#wanted !== null) {
        const asked = this.#wanted;
        this.#wanted = null;
        await this.ask(asked, () => this.#wanted === null);
      }
    } finally {
      this.#busy = false;
    }
  }
}

class Field {
  #timer;
  #shown = null;

  constructor(field, url) {
    this.field = field;
    this.url = url;
    this.said = document.getElementById(field.getAttribute("aria-describedby"));
    this.empty = [...this.said.childNodes];
    this.latest = new Latest((question, newest) => this.#ask(question, newest));
  }

  typed() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#begin(), PAUSE_MS);
  }

  clear() {
    clearTimeout(this.#timer);
    this.#shown = null;
    delete this.said.dataset.status;
    this.said.replaceChildren(...this.empty);
  }

  #begin() {
    const text = this.field.value.trim();
    if (!text) {
      this.clear();
      return;
    }
    const section = this.field.form.elements.section?.value;
    this.latest.want(this.field.dataset.live ? { text, statement: this.field.dataset.live } : { text, section });
  }

  async #ask(question, newest) {
    let answer;
    try {
      answer = await (await call("POST", this.url, { json: question })).json();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      answer = { status: "unchecked", label: UNCHECKED, reasons: [] };
    }
    if (newest() && this.field.value.trim() === question.text) this.#show(answer);
  }

  #show({ status, label, reasons }) {
    const shown = JSON.stringify([status, label, reasons]);
    if (this.#shown === shown) return; // nothing new: nothing is read out again
    this.#shown = shown;
    this.said.dataset.status = status;
    const words = document.createElement("p");
    words.textContent = label;
    const list = document.createElement("ul");
    list.append(...reasons.map(item));
    this.said.replaceChildren(words, ...(reasons.length ? [list] : []));
  }
}

function item(reason) {
  const line = document.createElement("li");
  line.textContent = reason.charAt(0).toUpperCase() + reason.slice(1);
  return line;
}
