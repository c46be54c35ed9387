"""Whatever order is spliced into a consultation, and however well a model obeys it, nothing gets out and nothing is done.

The real records, policies, gate, prompts, client, verifier and pages; the model is the embedded one, or one that obeys
every order as far as a model can.  That the detector of orders denies many of them is not what is tried here: each one
that it catches is tried again with the detector blind.  Every check has a control that makes it fail.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import cycle, islice, product
from pathlib import Path
from unittest import mock

import pytest

from clinic import asking, consultation, facts
from clinic.app import create_app
from clinic.config import Config
from clinic.consultation import Consultation
from clinic.domain import OPERATOR, Actor, Consent, PromptStyle, Role, Segment
from clinic.generation import prompts
from clinic.home import HomeOptions, create, open_records, unlock_home
from clinic.policy.decision import Decision, Deny, Redact
from clinic.policy.obligations import Obligations
from clinic.records.engine import open_engine
from clinic.records.records import Records
from tests.campaigns.audited_requests import _LateGate
from tests.campaigns.contained_clinic import (
    DOORS,
    ORDINARY,
    PLACES,
    PROFILES,
    VISITS,
    Case,
    Circumstances,
    Clinic,
    Person,
    Run,
    Turns,
    blind_detector,
    read_visits,
)
from tests.campaigns.containment_checks import Judge, Violation, authorized, obligations_lost
from tests.campaigns.injections import OURS, theirs
from tests.campaigns.obedient_model import ABUSES, DEEDS, LEAKS, MARKUP, ObedientModel, obedient_model
from tests.campaigns.processes import pin_recording_model
from tests.functional.web_world import HASHER, PASSWORD, Browser, WebServices

CHAT, COMPLETION = PromptStyle.CHAT, PromptStyle.COMPLETION


@dataclass
class Place:
    """A clinic, its judge and its model."""

    clinic: Clinic
    judge: Judge
    model: ObedientModel
    somebody: Actor
    counts: Counter[str] = field(default_factory=Counter)
    plain: dict[tuple[str, str, PromptStyle, Circumstances], Run] = field(default_factory=dict)

    def run(self, case: Case, circumstances: Circumstances = ORDINARY) -> Run:
        """Run one case with the model obeying its order."""
        self.model.deed, self.model.order = case.deed, case.order or ""
        run = self.clinic.run(case, circumstances)
        self.counts["asked" if run.sent else "not asked"] += 1
        self.counts["drafted" if run.note else f"stopped: {run.error.code if run.error else '?'}"] += 1
        return run

    def tried(self, case: Case, circumstances: Circumstances = ORDINARY) -> list[Violation]:
        """Run one case, compared with the same consultation without an order; blind where the order was noticed."""
        key = (case.person.id, case.door, case.style, circumstances)
        if key not in self.plain:
            self.plain[key] = self.run(replace(case, order=None, deed="what was said"), circumstances)
        plain = self.plain[key]
        run = self.run(case, circumstances)
        found = self._held(run, plain)
        if circumstances == ORDINARY and "injection-certain" in run.policies:
            self.counts["noticed, and tried blind"] += 1
            with blind_detector():
                found += self._held(self.run(case), plain)
        return found

    def _held(self, run: Run, plain: Run) -> list[Violation]:
        return [*self.judge.judge(run, plain), *obligations_lost(self.clinic, run, plain)]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a clinician of its own, for the obedient model."""
    home = tmp_path_factory.mktemp("contain") / "home"
    config = create(home, HomeOptions(insecure_key_file=True)).config
    pin_recording_model(home)
    records = _records(config)
    with records.write() as tx:
        tx.users.create("ada", display_name="Ada", role=Role.CLINICIAN, password=PASSWORD, actor=OPERATOR)
    records._engine.dispose()
    return home


def _records(config: Config) -> Records:
    return Records(open_engine(config.database), keyring=unlock_home(config), hasher=HASHER)


@contextmanager
def opened(template: Path, folder: Path, visits: tuple[Turns, ...]) -> Iterator[Place]:
    """Open a clinic with these visits behind the obedient model."""
    shutil.copytree(template, folder / "home")
    config = Config.load(folder / "home")
    records = _records(config)
    app = create_app(WebServices(config, records))
    browser = Browser(app.test_client())
    assert browser.sign_in("ada").status_code == 302
    with records.read() as tx:
        somebody = tx.users.list()[0].actor
    with obedient_model(folder / "m.sock") as model:
        clinic = Clinic(config, records, model.path, visits, PROFILES)
        yield Place(clinic, Judge(clinic, browser), model, somebody)
        clinic.close()


@pytest.fixture
def place(template: Path, tmp_path: Path) -> Iterator[Place]:
    """A clinic with our own four visits."""
    with opened(template, tmp_path, VISITS) as made:
        yield made


def cases(people: Iterable[Person], orders: Iterable[str], styles: Iterable[PromptStyle]) -> Iterator[Case]:
    """Yield each order once for each style; person, place, door and deed take turns, so that all meet."""
    turns = zip(cycle(people), cycle(product(PLACES, DOORS)), cycle(DEEDS), strict=False)
    for (order, style), (person, (where, door), deed) in zip(product(orders, styles), turns, strict=False):
        yield Case(person, order, where, door, style, deed)


def denied_circumstances(somebody: Actor) -> dict[str, Circumstances]:
    """Return circumstances in which every request must be denied."""
    administrator = Actor(user_id=OPERATOR.user_id, role=Role.ADMINISTRATOR)
    return {
        "no consent": replace(ORDINARY, consent=Consent.NOT_RECORDED),
        "refused": replace(ORDINARY, consent=Consent.REFUSED),
        "withdrawn": replace(ORDINARY, consent=Consent.WITHDRAWN),
        "somebody else's": replace(ORDINARY, opened_by=somebody),
        "no clinician": replace(ORDINARY, actor=administrator),
        "another model": replace(ORDINARY, verified=False),
    }


def kinds(found: Iterable[Violation]) -> set[str]:
    """Return the kinds of what was found."""
    return {violation.kind for violation in found}


def say(counts: Counter[str], what: str) -> None:
    """Print the numbers that docs/assurance.md reports."""
    print(f"\n{what}: {dict(sorted(counts.items()))}")  # noqa: T201 - the counts are what a campaign is for


# --- short form -----------------------------------------------------------------------------------------


def test_nothing_gets_out_and_nothing_is_done(place: Place) -> None:
    """Each of our own orders, in both styles of prompt, in turn by every door and with every deed: nothing to find."""
    found = []
    for case in cases(place.clinic.people, [order.text for order in OURS], (CHAT, COMPLETION)):
        found += place.tried(case)
    say(place.counts, "containment, short form")
    assert found == []
    assert place.counts["asked"] > 2 * len(OURS)
    assert place.counts["drafted"] > 10
    assert place.counts["stopped: output_forbidden"] > 10


@pytest.mark.parametrize("deed", DEEDS)
def test_every_deed_is_contained(place: Place, deed: str) -> None:
    """Each deed of the model, in the style with instructions: leaks and markup are refused, the rest is held."""
    run = place.run(Case(place.clinic.people[0], OURS[0].text, "middle", "typed", CHAT, deed))
    with blind_detector():
        run = place.run(replace(run.case))
    assert place.judge.judge(run) == []
    assert run.sent
    if deed in LEAKS or deed in MARKUP:
        assert run.error is not None
        assert run.error.code == "output_forbidden"
    if deed in ABUSES and run.note is not None:
        assert run.note.open_flags


def test_a_denied_request_stays_denied(place: Place) -> None:
    """No order lifts a refusal: consent, care relationship, role and the model's pin come from the record."""
    orders = [order.text for order in OURS if order.kind in {"consent", "role play", "sign", "delimiter"}]
    found = []
    for circumstances in denied_circumstances(place.somebody).values():
        for case in cases(place.clinic.people[:1], orders, (CHAT,)):
            found += place.tried(case, circumstances)
    assert found == []
    assert not place.counts["asked"] - len(VISITS) * 0 - place.counts["drafted"]
