"""A small clinic with something of everything in it, and a folder that stands for a USB disk."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from clinic.backup.site import Site
from clinic.config import Config
from clinic.crypto.sources import read_insecure_key_file
from clinic.domain import OPERATOR, EncounterKind, Role
from clinic.home import open_records, unlock_home
from clinic.records.patients import PatientData
from tests.unit.backup.backup_world import CANARIES, Clinic


@pytest.fixture
def usb(tmp_path: Path) -> Path:
    """Where a disk is mounted."""
    folder = tmp_path / "usb"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def make_clinic(make_home: Callable[..., Config]) -> Callable[..., Clinic]:
    """Make a clinic with two patients, a recording and an account."""

    def make(name: str = "home") -> Clinic:
        config = make_home(name)
        keyring = unlock_home(config)
        records = open_records(config, keyring)
        with records.write() as tx:
            tx.users.create("ada", display_name=CANARIES[0], role=Role.CLINICIAN, password=CANARIES[1], actor=OPERATOR)
            ids = []
            for canary in CANARIES[2:4]:
                patient = tx.patients.create(PatientData(canary, date(1961, 2, 3), "female", f"N-{canary}"), OPERATOR)
                encounter = tx.encounters.open(
                    patient.id, kind=EncounterKind.CONSULTATION, template="soap", language="en", actor=OPERATOR
                )
                recording = tx.recordings.start(encounter.id, mime="audio/wav", actor=OPERATOR)
                tx.recordings.append(recording.id, 0, CANARIES[4].encode() * 50)
                tx.recordings.complete(recording.id, chunks=1, actor=OPERATOR)
                ids.append(patient.id)
        secret = read_insecure_key_file(config.insecure_key_file)
        return Clinic(Site(config, keyring, records), secret, tuple(ids))

    return make


@pytest.fixture
def clinic(make_clinic: Callable[..., Clinic]) -> Clinic:
    """One such clinic."""
    return make_clinic()
