"""Detectors: pure functions from text to scores and spans.  They advise the policy; no safety rests on them alone."""
