"""What an id in an address looks like; anything else is no address of ours."""

from __future__ import annotations

from werkzeug.routing import BaseConverter


class RecordId(BaseConverter):
    """The id of a record (`domain.new_id`)."""

    regex = "[0-9a-f]{32}"


class PartId(BaseConverter):
    """The id of a part of a note."""

    regex = r"[A-Za-z0-9_.:-]{1,64}"
