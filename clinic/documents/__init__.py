"""Documents made from a signed note: letters, instructions for the patient, a discharge summary.

Rules kept here:

* A document is put together from sentences of the signed note, word for word; no model is asked, and nothing is added.
* What a clinician writes is held against the note like a statement of a note against what was said.
* The policy is asked before anything is put together, and its answer is recorded first.
"""
