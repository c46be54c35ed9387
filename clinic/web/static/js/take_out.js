/*
 * A note taken off the page: copied as text, or printed.
 *
 * Rules kept here:
 *   - the box records it before it gives the text, and before the button prints; what it refuses does not leave;
 *   - printing by the browser's own menu is recorded as well as a page can: when it begins;
 *   - where the clipboard is refused, the text is shown and selected, to be copied by hand.
 */

import { ApiError, call, showError } from "./api.js";

/** @param {HTMLElement} bar holds the buttons, the line that says what happened, and the text to copy by hand */
export function takeOut(bar) {
  const said = bar.querySelector(".said");
  const fallback = bar.querySelector(".fallback");
  const take = async (form) => call("POST", bar.dataset.url, { json: { form } });
  let printing = false;
  /* not before they can do anything: a click that is lost leaves another note on the clipboard */
  bar.querySelectorAll("[data-take]").forEach((button) => (button.disabled = false));

  bar.addEventListener("click", async (event) => {
    const form = event.target.closest("[data-take]")?.dataset.take;
    if (!form) return;
    said.textContent = form === "text" ? "Copying" : "";
    fallback.hidden = true;
    try {
      showError(null);
      if (form === "text") {
        await copied(async () => (await (await take(form)).json()).text, { said, fallback });
        return;
      }
      await take(form);
      printing = true;
      window.print();
      printing = false;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      said.textContent = form === "text" ? "Not copied." : "";
      showError(error);
    }
  });
  window.addEventListener("beforeprint", () => {
    if (!printing) take("print").catch(showError);
  });
}

/** Put a text that comes later on the clipboard; where that is not allowed, show and select it. */
async function copied(fetchText, { said, fallback }) {
  const coming = fetchText();
  coming.catch(() => {}); /* a refusal by the box is thrown below, whatever the clipboard says first */
  try {
    const blob = coming.then((text) => new Blob([text], { type: "text/plain" }));
    blob.catch(() => {});
    await navigator.clipboard.write([new ClipboardItem({ "text/plain": blob })]);
    said.textContent = "Copied.";
  } catch {
    const field = fallback.querySelector("textarea");
    field.value = await coming;
    fallback.hidden = false;
    field.focus();
    field.select();
    said.textContent = "The browser does not allow copying here. The text is selected: copy it with the keyboard.";
  }
}
