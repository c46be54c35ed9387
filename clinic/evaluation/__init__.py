"""Evaluation: how well verification finds planted errors, and recognition what was said.

Rules kept here:

* The same seed plants the same errors and makes the same sounds: no choice depends on
  the order or on another statement.
* Only counts leave this room, and names of drugs; no text of a note or transcript does.
"""
