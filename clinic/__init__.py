"""Clinic: an offline documentation assistant.  The flow is told, step by step, in `clinic.consultation`."""

import os

__version__ = "0.1.0"

# Before NumPy is loaded: its products here are small, and two threads take twice the processor time for the same speed.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
