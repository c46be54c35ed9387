"""Clinic: an offline documentation assistant.  The flow is told, step by step, in `clinic.consultation`."""

__version__ = "0.1.0"
