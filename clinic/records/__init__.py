"""Records: patients, encounters, recordings, transcripts, generations and notes, sealed in one SQLite file.

Rules kept here:

* `records.Records` is the way in; `engine` opens the file, `migrate` keeps its schema current.
* Only `records/` and `audit/` know SQLAlchemy; what leaves this package are frozen values.
"""
