"""The request class: an upload never touches the disk in the clear.

Rules kept here:

* Werkzeug would write any multipart upload over 500 kB to a temporary file.  `_get_file_stream` is the hook that
  decides this (underscored: Werkzeug is pinned, and a test watches the folder of temporary files).
* Bodies are limited before anything reads them; only the upload form may send more than a chunk.
"""

from __future__ import annotations

from typing import IO, cast

from flask import Request, current_app, request

from clinic.speech.spool import EncryptedSpool

CHUNK_LIMIT = 1024 * 1024
_FORM_OVERHEAD = 64 * 1024
UPLOAD_ENDPOINT = "recordings.upload"


class ClinicRequest(Request):
    """A Flask request whose file parts are spooled encrypted."""

    def _get_file_stream(
        self,
        total_content_length: int | None,  # noqa: ARG002 - the length decides nothing: every file is spooled
        content_type: str | None,  # noqa: ARG002
        filename: str | None = None,  # noqa: ARG002 - a file's name may be a patient's name: not looked at
        content_length: int | None = None,  # noqa: ARG002
    ) -> IO[bytes]:
        return cast("IO[bytes]", EncryptedSpool(current_app.config["SPOOL_DIR"]))


def limit_body() -> None:
    """Set how much this request may send; runs before anything reads the body."""
    if request.endpoint == UPLOAD_ENDPOINT:
        request.max_content_length = int(current_app.config["MAX_UPLOAD_BYTES"]) + _FORM_OVERHEAD
