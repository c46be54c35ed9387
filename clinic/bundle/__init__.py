"""The bundle: everything that a box without a network needs, in one signed folder or file.

Rules kept here:

* Every file is named by its SHA-256; what is not named in the signed manifest may not be there.
* The same inputs give the same bytes: no time, no machine, no order of a directory enters.
* Nothing goes in that was not pinned (wheels), committed (program) or given with its licence (models).

`build` makes one, `verify` reads all of it, `deploy/install_bundle.py` installs it; `FORMAT.md` says how it lies there.
"""
