/*
 * The page of one document: its sentences beside those of the signed note.  Reviewed like a draft note.
 */

import { isLeaving } from "./idle.js";
import { review } from "./review.js";
import { takeOut } from "./take_out.js";
import { guard } from "./typed.js";

const parts = { "transcript-list": review, "take-out": takeOut };

for (const [id, begin] of Object.entries(parts)) {
  const element = document.getElementById(id);
  if (element) begin(element);
}
guard(isLeaving);
