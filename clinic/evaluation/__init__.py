"""Evaluation: how well verification finds errors that were planted in notes by people.

Rules kept here:

* The same seed plants the same errors: no choice depends on the order or on another statement.
* Only counts leave this room; no text of a note or transcript does.
"""
