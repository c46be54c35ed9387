"""The tamper-evident audit log: what happened, in order, without a word of what was said.

`FORMAT.md` is the specification; the modules are its shadow.
"""
