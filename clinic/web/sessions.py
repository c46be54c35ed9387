"""Who is signed in, and until when.

Rules kept here:

* The cookie is signed and names an account, its session epoch and times; it holds nothing about patients.
* A session ends by signing out, after `web.idle_minutes` without activity, after twelve hours, when the account is
  disabled, when its password changes (the epoch moves), and when the web process restarts: which sessions were signed
  out is known to that process only, so none may outlive it.
* Times are seconds since boot, sleep included: setting the clock of an offline box neither ends nor prolongs a session.
* Signing in starts from an empty session, so nothing that was there before (fixation) lives on.
* Between password and second factor there is no session: the cookie says only whose factor is waited for, for five
  minutes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock
from typing import cast

from flask import Flask, current_app, g, session
from flask_login import LoginManager, current_user, login_user, logout_user

from clinic.domain import Actor, UserId, new_id
from clinic.records.standing import Standing
from clinic.records.users import User
from clinic.web import devices
from clinic.web.ports import services

ABSOLUTE_SECONDS = 12 * 3600
HALF_WAY_SECONDS = 5 * 60
Uptime = Callable[[], float]
_EXTENSION = "clinic.sessions"


def uptime() -> float:
    """Return the seconds since boot, sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Account:
    """An account as Flask-Login wants to see it."""

    is_authenticated = True
    is_active = True
    is_anonymous = False

    def __init__(self, user: User, standing: Standing) -> None:
        self.user = user
        self.standing = standing

    def get_id(self) -> str:
        """Return the account's id."""
        return self.user.id


class SessionBook:
    """The sessions that were signed out before they ran out: a copy of such a cookie opens nothing."""

    def __init__(self, clock: Uptime) -> None:
        self.clock = clock
        self.run = new_id()  # random, of this process alone
        self._ended: dict[str, float] = {}
        self._lock = Lock()

    def end(self, sid: str) -> None:
        """Remember a session as ended until it would have run out by itself."""
        now = self.clock()
        with self._lock:
            self._ended = {known: until for known, until in self._ended.items() if until > now}
            self._ended[sid] = now + ABSOLUTE_SECONDS

    def ended(self, sid: str) -> bool:
        """Tell whether a session was signed out."""
        with self._lock:
            return sid in self._ended


def configure(app: Flask, *, clock: Uptime = uptime) -> None:
    """Give an application its sessions."""
    app.extensions[_EXTENSION] = SessionBook(clock)
    manager = LoginManager(app)
    manager.session_protection = None  # the cookie is bound to account, epoch and run; tablets change their address
    manager.user_loader(_load)


def _book() -> SessionBook:
    return cast("SessionBook", current_app.extensions[_EXTENSION])


def begin(user: User) -> None:
    """Start a fresh session for an account that has just proved who it is."""
    session.clear()
    g.pop("csrf_token", None)
    now = _book().clock()
    session.update(sid=new_id(), epoch=user.session_epoch, run=_book().run, began=now, seen=now)
    with services().records.read() as tx:
        login_user(Account(user, tx.standing(user)))
    devices.remember(user)


def half_way(user: User) -> None:
    """Remember whose password was right, until the second factor is."""
    session.clear()
    g.pop("csrf_token", None)
    session["half"] = {"user": user.id, "epoch": user.session_epoch, "run": _book().run, "at": _book().clock()}


def waiting_for() -> User | None:
    """Return the account whose second factor is waited for; None if nobody's is, or not any more."""
    half = session.get("half")
    if not isinstance(half, dict) or half.get("run") != _book().run:
        return None
    if not 0 <= _book().clock() - half["at"] < HALF_WAY_SECONDS:
        return None
    with services().records.read() as tx:
        user = tx.users.get(UserId(half["user"]))
    return user if user is not None and not user.disabled and user.session_epoch == half["epoch"] else None


def end() -> None:
    """End this session, also for copies of its cookie."""
    if sid := session.get("sid"):
        _book().end(str(sid))
    logout_user()
    session.clear()


def restarted() -> bool:
    """Tell whether this browser was signed in before the web process restarted."""
    return "sid" in session and session.get("run") != _book().run


def touch() -> None:
    """Note the user's activity."""
    session["seen"] = _book().clock()


def current() -> User | None:
    """Return the account that is signed in, if there is one."""
    return cast("User", current_user.user) if current_user.is_authenticated else None


def signed_in() -> User:
    """Return the account that is signed in; for views behind `access.allow`."""
    user = current()
    if user is None:
        raise RuntimeError("no session: the view is not behind `access.allow`")
    return user


def standing() -> Standing:
    """Return what the account that is signed in has beside its password; for views behind `access.allow`."""
    signed_in()
    return cast("Standing", current_user.standing)


def clock() -> float:
    """Return the seconds since boot, sleep included, as this application counts them."""
    return _book().clock()


def session_id() -> str:
    """Return the name of this session, which says nothing of whose it is; for views behind `access.allow`."""
    signed_in()
    return str(session["sid"])


def actor() -> Actor:
    """Return who acts, for records and audit."""
    user = signed_in()
    return Actor(user_id=UserId(user.id), role=user.role)


def _load(user_id: str) -> Account | None:
    if not _alive():
        return None
    with services().records.read() as tx:
        user = tx.users.get(UserId(user_id))
        if user is None or user.disabled or session.get("epoch") != user.session_epoch:
            return None
        return Account(user, tx.standing(user))


def _alive() -> bool:
    began, seen, sid = session.get("began"), session.get("seen"), session.get("sid")
    if not isinstance(began, float) or not isinstance(seen, float) or not isinstance(sid, str):
        return False
    book = _book()
    now = book.clock()
    idle_seconds = services().config.web.idle_minutes * 60
    return (
        session.get("run") == book.run
        and not book.ended(sid)
        and 0 <= now - seen < idle_seconds
        and 0 <= now - began < ABSOLUTE_SECONDS
    )
