"""Backups: made while the clinic runs, encrypted, read back and verified, restored, drilled, re-keyed after a shred.

Rules kept here:

* Nothing stands in the clear on the medium, and no second copy of the database ever lies on the box: rows stream from
  one unchanging state of the database straight into age.
* A backup exists whole, read back and recorded in the audit log, or not at all.
* The wrapped keys of patients lie apart from their data, in one small file of each backup, so that a shredded patient
  is forgotten by all backups without rewriting them.
* A restored clinic is built beside the old one and put in its place in one step.
* Formats: `FORMAT.md`.
"""
