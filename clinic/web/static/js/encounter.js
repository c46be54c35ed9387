/*
 * The page of one encounter: wires what the present step shows.  Each part lives in its own module.
 */

import { capture } from "./capture.js";
import { isLeaving } from "./idle.js";
import { follow } from "./processing.js";
import { review } from "./review.js";
import { takeOut } from "./take_out.js";
import { guard } from "./typed.js";

const parts = { capture, processing: follow, "transcript-list": review, "take-out": takeOut };

for (const [id, begin] of Object.entries(parts)) {
  const element = document.getElementById(id);
  if (element) begin(element);
}
guard(isLeaving);
