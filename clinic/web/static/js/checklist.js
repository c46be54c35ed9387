/*
 * Flags and omissions as a checklist for the keyboard.
 *
 * Rules kept here:
 *   - keys of one letter count only while an item itself has the focus (WCAG 2.1.4), never while somebody types;
 *   - every key presses a button that is on the page: whoever uses none of them misses nothing;
 *   - after a decision the next item has the focus, after the last one the signature;
 *   - nothing is decided that could not be read: a key that is held down, or pressed twice, decides once.
 */

const ITEMS = "[data-item]";
const STEPS = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 };
const READ_MS = 400;
const BUTTONS = { Enter: "[data-decide]", e: "[data-edit]", p: "[data-evidence-button]" };

/** @param {HTMLElement} note the pane; `look(item)` shows what was said of an item that gets the focus */
export function checklist(note, look) {
  let since = 0;
  note.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) {
      if (event.key === "Enter" && event.target.matches("[data-live]")) event.target.form.requestSubmit();
      return;
    }
    if (event.target.matches("[data-live]")) {
      leave(event);
      return;
    }
    if (!event.target.matches(ITEMS)) return;
    if (event.key === "Enter" && (event.repeat || event.timeStamp - since < READ_MS)) {
      event.preventDefault();
      return;
    }
    if (step(note, event.target, STEPS[event.key]) || press(event.target, BUTTONS[event.key])) event.preventDefault();
  });
  note.addEventListener("click", (event) => {
    if (event.target.closest("[data-first-item]")) items(note)[0]?.focus();
  });
  note.addEventListener("focusin", (event) => {
    if (!event.target.matches(ITEMS)) return;
    since = event.timeStamp;
    look(event.target);
  });
}

/** The place of an item in the list, to go on from; null for what is none. */
export function placeOf(note, element) {
  const place = items(note).indexOf(element?.closest(ITEMS));
  return place < 0 ? null : place;
}

/** Go on to what stands at this place now; behind the last item, to the signature. */
export function goOn(note, place) {
  const left = items(note);
  const next = left[Math.min(place, left.length - 1)] ?? note.querySelector('[name="attestation"]:enabled');
  next?.focus();
  return Boolean(next);
}

function items(note) {
  return [...note.querySelectorAll(ITEMS)];
}

function step(note, item, by) {
  if (!by) return false;
  const all = items(note);
  all[all.indexOf(item) + by]?.focus();
  return true;
}

function press(item, button) {
  const found = button && item.querySelector(button);
  found?.click();
  return Boolean(found);
}

/** Escape leaves a field in which nothing was changed. */
function leave(event) {
  const field = event.target;
  if (event.key !== "Escape" || field.value !== field.defaultValue || !field.dataset.live) return;
  const statement = field.closest(".statement");
  statement.querySelector("[data-edit]").click();
  (statement.matches(ITEMS) ? statement : statement.querySelector("[data-edit]")).focus();
}
