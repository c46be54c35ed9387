/*
 * Words that are typed and not saved: they outlive a note that is drawn anew, and are not left behind unasked.
 *
 * Rules kept here:
 *   - they live in the page only: nothing is written to the browser's storage;
 *   - where the sentence that somebody edits was changed meanwhile, both stand there, and one of them is chosen;
 *   - where it is gone, the words wait under "Add a sentence".
 */

const FIELDS = "textarea[data-live]";

/** What is typed in a note and not saved, field by field; `base` is what stood in the field at first. */
export function unsaved(note) {
  return [...note.querySelectorAll(FIELDS)]
    .filter((field) => plain(field.value) !== plain(field.defaultValue))
    .map((field) => ({
      statement: field.dataset.live,
      base: field.defaultValue,
      value: field.value,
      section: field.form.elements.section?.value,
      caret: field === document.activeElement ? [field.selectionStart, field.selectionEnd] : null,
    }));
}

/** Put what was typed back into a note that was drawn anew; tells whether a sentence was changed meanwhile. */
export function restore(note, kept) {
  let changed = false;
  for (const item of kept) {
    const own = item.statement && note.querySelector(`textarea[data-live="${CSS.escape(item.statement)}"]`);
    const field = own || note.querySelector('textarea[data-live=""]');
    if (!field) continue; /* the note can be edited no more */
    open(field);
    field.value = own ? item.value : [field.value, item.value].filter(Boolean).join("\n");
    if (!own && item.section) field.form.elements.section.value = item.section;
    if (own ? plain(own.defaultValue) !== plain(item.base) : item.statement) {
      changed = true;
      offer(field, own ? own.defaultValue : null);
    }
    field.dispatchEvent(new Event("input", { bubbles: true })); /* checked against what was said again */
    if (item.caret) {
      field.focus({ preventScroll: true });
      field.setSelectionRange(...item.caret);
    }
  }
  return changed;
}

/** Ask before a page is left on which something is typed and not sent, unless it `isLeaving` for nobody is there. */
export function guard(isLeaving) {
  let sending = false;
  document.addEventListener("submit", (event) => {
    if (!event.defaultPrevented) sending = true;
  });
  window.addEventListener("beforeunload", (event) => {
    if (!sending && !isLeaving() && anythingTyped()) event.preventDefault();
  });
}

function anythingTyped() {
  return [...document.querySelectorAll("textarea:not([readonly])")].some((field) => field.value !== field.defaultValue);
}

function open(field) {
  const details = field.closest("details");
  if (details) details.open = true;
  else {
    field.form.hidden = false;
    field.closest(".statement").querySelector("[data-edit]").setAttribute("aria-expanded", "true");
  }
}

/** Show the words that stand in the note now beside those that were typed; null: the sentence is gone. */
function offer(field, theirs) {
  const box = document.createElement("div");
  box.className = "conflict";
  box.dataset.testid = "conflict";
  box.setAttribute("role", "alert");
  const told = document.createElement("p");
  told.textContent =
    theirs === null
      ? "The sentence that you edited was removed meanwhile. Your words are kept here: add them, or clear the field."
      : "This sentence was changed meanwhile. In the note now:";
  box.append(told);
  if (theirs !== null) {
    const words = document.createElement("blockquote");
    words.textContent = theirs;
    const take = document.createElement("button");
    take.type = "reset";
    take.textContent = "Take these words";
    take.dataset.cancel = "";
    take.dataset.testid = "take-theirs";
    box.append(words, take, " Or save yours in their place:");
  }
  field.form.querySelectorAll(".conflict").forEach((old) => old.remove());
  field.form.prepend(box);
  field.form.addEventListener("reset", () => box.remove(), { once: true });
}

function plain(words) {
  return words.split(/\s+/).filter(Boolean).join(" ");
}
