"""Who is signed in, and until when.

Rules kept here:

* The cookie is signed and names an account, its session epoch and times; it holds nothing about patients.
* A session ends by signing out, after `web.idle_minutes` without activity, after twelve hours, when the account is
  disabled, when its password changes (the epoch moves), when its owner or an administrator ends it from elsewhere, and
  when the web process restarts: which sessions live is known to that process only, so none may outlive it.
* Times are seconds since boot, sleep included: setting the clock of an offline box neither ends nor prolongs a session.
* Signing in starts from an empty session, so nothing that was there before (fixation) lives on.
* Between password and second factor there is no session: the cookie says only whose factor is waited for, for five
  minutes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock
from typing import cast

from flask import Flask, current_app, g, request, session
from flask_login import LoginManager, current_user, login_user, logout_user

from clinic.domain import Actor, UserId, new_id, utc_now
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


@dataclass(slots=True)
class Session:
    """A session that lives, for whoever may see and end it.

    Attributes:
        handle: how a page names it; opens nothing.
        user_id: whose it is.
        device: what the browser says of itself, in a few words.
        address: where it signed in from.
        began: when it signed in.
        seen: when it was last used.
        until: seconds since boot at which it ends by itself.
        epoch: the account's session epoch when it began.
    """

    handle: str
    user_id: UserId
    device: str
    address: str
    began: datetime
    seen: datetime
    until: float
    epoch: int


class SessionBook:
    """The sessions of this process, which live in its memory only: a cookie whose session is not here opens nothing."""

    def __init__(self, clock: Uptime) -> None:
        self.clock = clock
        self.run = new_id()  # random, of this process alone
        self._live: dict[str, Session] = {}
        self._lock = Lock()

    def open(self, sid: str, session: Session) -> None:
        """Keep a session that begins now."""
        now = self.clock()
        with self._lock:
            self._live = {known: each for known, each in self._live.items() if each.until > now}
            self._live[sid] = session

    def find(self, sid: str) -> Session | None:
        """Return a session that lives."""
        with self._lock:
            return self._live.get(sid)

    def end(self, sid: str) -> None:
        """End a session."""
        with self._lock:
            self._live.pop(sid, None)

    def of(self, user_id: str) -> list[Session]:
        """Return the sessions of an account, the one used last first."""
        now = self.clock()
        with self._lock:
            found = [each for each in self._live.values() if each.user_id == user_id and each.until > now]
        return sorted(found, key=lambda each: each.seen, reverse=True)

    def end_others(self, user_id: str, *, but: str | None = None, handle: str | None = None) -> int:
        """End the sessions of an account, but for one, or only the one with this handle; return how many."""
        with self._lock:
            ending = [
                sid
                for sid, each in self._live.items()
                if each.user_id == user_id and sid != but and handle in {None, each.handle}
            ]
            for sid in ending:
                del self._live[sid]
        return len(ending)


def configure(app: Flask, *, clock: Uptime = uptime) -> None:
    """Give an application its sessions."""
    app.extensions[_EXTENSION] = SessionBook(clock)
    manager = LoginManager(app)
    manager.session_protection = None  # the cookie is bound to account, epoch and run; tablets change their address
    manager.user_loader(_load)


def _book() -> SessionBook:
    return cast("SessionBook", current_app.extensions[_EXTENSION])


def begin(user: User) -> None:
    """Start a fresh session for an account that has just proved who it is; the one before on this browser ends."""
    _end_the_one_before()
    g.pop("csrf_token", None)
    now = _book().clock()
    sid = new_id()
    session.update(sid=sid, epoch=user.session_epoch, run=_book().run, began=now, seen=now)
    _book().open(sid, _described(user, until=now + ABSOLUTE_SECONDS))
    with services().records.read() as tx:
        login_user(Account(user, tx.standing(user)))
    devices.remember(user)


def half_way(user: User) -> None:
    """Remember whose password was right, until the second factor is."""
    _end_the_one_before()
    g.pop("csrf_token", None)
    session["half"] = {"user": user.id, "epoch": user.session_epoch, "run": _book().run, "at": _book().clock()}


def _end_the_one_before() -> None:
    if sid := session.get("sid"):
        _book().end(str(sid))
    session.clear()


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


def own() -> tuple[list[Session], str]:
    """Return the sessions of who is signed in, and the handle of this one."""
    here = _book().find(session_id())
    return _alive_of(signed_in()), "" if here is None else here.handle


def of_account(user: User) -> list[Session]:
    """Return the sessions of another account, for administrators."""
    return _alive_of(user)


def end_one(user: User, handle: str) -> bool:
    """End a session of an account; return whether there was one of this handle."""
    return _book().end_others(user.id, handle=handle) > 0


def end_my_others() -> int:
    """End every session of who is signed in, but for this one; return how many there were."""
    return _book().end_others(signed_in().id, but=session_id())


def _alive_of(user: User) -> list[Session]:
    idle = timedelta(minutes=services().config.web.idle_minutes)
    now = utc_now()
    return [each for each in _book().of(user.id) if now - each.seen < idle and each.epoch == user.session_epoch]


def _described(user: User, *, until: float) -> Session:
    now = utc_now()
    device, address = device_words(request.user_agent.string), request.remote_addr or ""
    return Session(new_id(), user.id, device, address, now, now, until, user.session_epoch)


def device_words(user_agent: str) -> str:
    """Return what a browser says of itself in a few words: `Firefox on Android`; it may say what it likes.

    Example:
        >>> device_words("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36 Edg/140.0")
        'Edge on Linux'
    """
    browser = next((name for sign, name in _BROWSERS if sign in user_agent), "A browser")
    system = next((name for sign, name in _SYSTEMS if sign in user_agent), "")
    return f"{browser} on {system}" if system else browser


_BROWSERS = (("Firefox/", "Firefox"), ("Edg/", "Edge"), ("OPR/", "Opera"), ("Chrome/", "Chrome"), ("Safari/", "Safari"))
_SYSTEMS = (
    *(("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad"), ("Windows", "Windows")),
    *(("Mac OS X", "a Mac"), ("CrOS", "ChromeOS"), ("Linux", "Linux")),
)


def restarted() -> bool:
    """Tell whether this browser was signed in before the web process restarted."""
    return "sid" in session and session.get("run") != _book().run


def touch() -> None:
    """Note the user's activity."""
    session["seen"] = _book().clock()
    live = _book().find(session_id())
    if live is not None:
        live.seen = utc_now()


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
        and book.find(sid) is not None
        and 0 <= now - seen < idle_seconds
        and 0 <= now - began < ABSOLUTE_SECONDS
    )
