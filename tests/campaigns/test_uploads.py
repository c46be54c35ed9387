"""The web server is killed again and again while a recording comes in: no acknowledged second is lost."""

from __future__ import annotations

import hashlib
import random  # noqa: TID251 - moments are drawn from a fixed seed
import time
from collections import Counter
from collections.abc import Callable

import pytest

from clinic.config import Config
from clinic.domain import OPERATOR, Consent, EncounterKind, Role, Scope
from clinic.home import open_records, unlock_home
from clinic.records.patients import PatientData
from clinic.records.records import Records
from tests.campaigns.upload_server import Server, Upload, free_port
from tests.unit.speech.sound import FORMATS, encode, tone

CHUNK_S = 2
KINDS = 25
LONGEST_S = 0.5
"""A kill comes so long after the first acknowledgement of a life, at most."""


def chunks() -> list[bytes]:
    """Return recordings of two seconds; one after the other they make a long one."""
    form = FORMATS["webm-opus"]
    return [encode(tone(CHUNK_S, rate=form.rate, hertz=200 + 10 * kind), form) for kind in range(KINDS)]


def begin(config: Config, records: Records) -> Upload:
    """Open an encounter with consent, and a recording that a program of its clinician sends."""
    with records.write() as tx:
        user = tx.users.create(
            "ann", display_name="Ann", role=Role.CLINICIAN, password="a long enough phrase", actor=OPERATOR
        )
        _, secret = tx.tokens.create(user, name="EMR", scopes=[Scope.RECORDINGS_WRITE], days=9, actor=OPERATOR)
        patient = tx.patients.create(PatientData(name="Ada Example"), user.actor)
        encounter = tx.encounters.open(
            patient.id, kind=EncounterKind.CONSULTATION, template="soap", language="en", actor=user.actor
        )
        tx.encounters.record_consent(encounter.id, Consent.GIVEN, user.actor)
        recording = tx.recordings.start(encounter.id, mime="audio/webm", actor=user.actor)
    return Upload(config, recording.id, secret, chunks())


def lost(config: Config, upload: Upload) -> list[int]:
    """Return the numbers of the chunks that were acknowledged and are not there, byte for byte."""
    records = open_records(config, unlock_home(config))
    with records.read() as tx:
        there = {
            number: hashlib.sha256(tx.recordings.chunk(upload.recording, number)).hexdigest()
            for number in tx.recordings.get(upload.recording).received
        }
    records.close()
    return sorted(number for number, digest in upload.acknowledged.items() if there.get(number) != digest)


def campaign(config: Config, cycles: int, *, hasty: bool = False, until_lost: bool = False) -> Counter[str]:
    """Start, let it come in, kill; so many times.  Then look for everything that was acknowledged."""
    records = open_records(config, unlock_home(config))
    upload, delays, counts = begin(config, records), random.Random(20), Counter[str]()
    records.close()
    upload.start()
    try:
        for _ in range(cycles):
            server = Server(config, hasty=hasty)
            upload.wait_for_more()
            time.sleep(delays.uniform(0, LONGEST_S))
            server.kill()
            counts["kills"] += 1
            if until_lost and lost(config, upload):
                break
    finally:
        upload.stop()
    counts["chunks acknowledged"] = len(upload.acknowledged)
    counts["seconds acknowledged"] = CHUNK_S * len(upload.acknowledged)
    counts["chunks sent again"] = upload.tries - len(upload.acknowledged)
    counts["seconds lost"] = CHUNK_S * len(lost(config, upload))
    return counts


@pytest.fixture
def clinic(make_home: Callable[..., Config]) -> Config:
    """A data folder with a port of its own."""
    return make_home(port=free_port())


def test_killed_while_a_recording_comes_in_short(clinic: Config) -> None:
    """Five kills: nothing that was acknowledged is gone, and something was acknowledged in each life."""
    counts = campaign(clinic, 5)
    assert counts["seconds lost"] == 0
    assert counts["chunks acknowledged"] >= 5


def test_acknowledged_too_early_is_caught_short(clinic: Config) -> None:
    """Negative control: acknowledged before it is durable, the same kills lose some."""
    assert campaign(clinic, 20, hasty=True, until_lost=True)["seconds lost"] > 0


@pytest.mark.campaign
@pytest.mark.timeout(3600)
def test_killed_while_a_recording_comes_in(clinic: Config) -> None:
    """200 kills."""
    counts = campaign(clinic, 200)
    print(dict(counts))  # noqa: T201 - what docs/assurance.md says
    assert counts["seconds lost"] == 0
    assert counts["kills"] == 200
