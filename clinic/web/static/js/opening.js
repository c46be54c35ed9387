/*
 * Opening an encounter: the kind that is chosen suggests its usual note; any other can still be chosen.
 */

const note = document.getElementById("template");

for (const kind of document.querySelectorAll("[data-template]")) {
  kind.addEventListener("change", () => {
    if ([...note.options].some((option) => option.value === kind.dataset.template)) note.value = kind.dataset.template;
  });
}
