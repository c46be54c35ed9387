/*
 * The signed note: copy it, print it.  The text that is copied is the text that is shown.
 */

export function signed(note) {
  const said = document.getElementById("copied");
  document.getElementById("copy").addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(note.innerText.trim());
      said.textContent = "The note is copied.";
      said.classList.remove("visually-hidden");
    } catch {
      getSelection().selectAllChildren(note);
      said.textContent = "Copying is not allowed here; the note is selected, copy it with the keyboard.";
      said.classList.remove("visually-hidden");
    }
  });
  document.getElementById("print").addEventListener("click", () => window.print());
}
