"""How values look on a page: dates, ages, seconds, a transcript's words.

Rules kept here:

* Months are written as words, so 3/4 can never be read as 4/3.  Times are the box's local time; `<time>` keeps UTC.
* Nothing here decides anything.
"""

from __future__ import annotations

import json
from datetime import date, datetime

from flask import Flask
from markupsafe import Markup

from clinic.domain import Statement
from clinic.verification.marks import marks
from clinic.web import wording

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def day(value: date | None) -> str:
    """Return `5 Mar 1961`, or a dash."""
    return f"{value.day} {_MONTHS[value.month - 1]} {value.year}" if value else "–"  # noqa: RUF001 - a dash for readers


def age(born: date | None) -> str:
    """Return the age today in years, or nothing."""
    if born is None:
        return ""
    today = date.today()  # noqa: DTZ011 - an age is counted in local calendar days
    return f"{today.year - born.year - ((today.month, today.day) < (born.month, born.day))} y"


def moment(value: datetime) -> str:
    """Return local date and time in words."""
    local = value.astimezone()
    return f"{day(local.date())}, {local:%H:%M}"


def when(value: datetime | str | None) -> Markup:
    """Return a `<time>` element with local date and time."""
    if value is None:
        return Markup("–")  # noqa: RUF001
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    local = moment.astimezone()
    return Markup('<time datetime="{}">{}, {:%H:%M}</time>').format(moment.isoformat(), day(local.date()), local)


def zone_of_the_box() -> str:
    """Return the clinic's zone in words, as it is now: `CET, UTC+01:00`."""
    now = datetime.now().astimezone()
    offset = now.strftime("%z")
    name = now.tzname() or ""
    shown = f"UTC{offset[:3]}:{offset[3:5]}"
    return shown if not name or name[0] in "+-" else f"{name}, {shown}"


def when_exactly(value: str) -> Markup:
    """Return a `<time>` element with local date and time to the second, from an entry of the audit log."""
    local = datetime.fromisoformat(value).astimezone()
    return Markup('<time datetime="{}">{}, {:%H:%M:%S}</time>').format(value, day(local.date()), local)


def when_utc(value: str) -> Markup:
    """Return a `<time>` element with date and time in UTC, to the second, from an entry of the audit log."""
    moment = datetime.fromisoformat(value)
    return Markup('<time datetime="{}">{}, {:%H:%M:%S}</time>').format(value, day(moment.date()), moment)


def clock(seconds: float | None) -> str:
    """Return `1:05` for 65 seconds; with hours from the first hour on."""
    if seconds is None:
        return ""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def evidence(statement: Statement) -> str:
    """Return a statement's evidence as JSON for a data attribute (ids and seconds, no text)."""
    return json.dumps([e.model_dump(mode="json") for e in statement.evidence], separators=(",", ":"))


def register(app: Flask) -> None:
    """Make filters and labels known to the templates."""
    app.jinja_env.filters.update(
        day=day, age=age, when=when, when_utc=when_utc, when_exactly=when_exactly, clock=clock, evidence=evidence
    )
    app.jinja_env.globals.update(wording=wording, marks=marks)
    app.jinja_env.trim_blocks = True
    app.jinja_env.lstrip_blocks = True
