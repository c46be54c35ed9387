"""The JSON API, version 1: what another program on the clinic's LAN may do, such as an EMR.

Rules kept here:

* The table of operations (`operations.py`) is the one source: routes, scopes, checks of a body and the OpenAPI document
  come from it, so they cannot disagree.
* A token is asked for before anything else is looked at; no cookie is read or set, so no browser can be made to call.
* A program acts for one clinician, through the functions that the form uses: it may do nothing that the form refuses,
  and does not sign.
* Patient text travels in bodies only: never in an address, a header, a log line or an error.
* Every error is a problem document (RFC 9457) with the codes that the rest of the program uses.
"""
