"""Document templates: read strictly, pinned in the policies."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from clinic.documents.answering import LOOKUP
from clinic.documents.assembly import document_of
from clinic.documents.template import (
    DocumentTemplate,
    document_ids,
    load_document_template,
    require_document,
    template_of,
)
from clinic.errors import ConfigError, InputError
from tests.unit.documents.documents_world import source

PINS = (Path(__file__).resolve().parents[3] / "policies" / "pins.cedar").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", document_ids())
def test_every_template_is_pinned_by_its_digest(name: str) -> None:
    """The policies name exactly what ships."""
    assert f'{{ id: "{name}", sha256: "{load_document_template(name).sha256}" }}' in PINS


def test_the_way_of_answering_questions_is_pinned() -> None:
    """Another way of choosing sentences needs another version, and the policies to name it."""
    assert f'{{ id: "{LOOKUP.id}", sha256: "{LOOKUP.sha256}" }}' in PINS


def text(name: str = "referral_letter") -> dict[str, Any]:
    """Return a template as it stands in its file."""
    file = files("clinic.documents") / "templates" / f"{name}.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"sections": []}, id="no section"),
        pytest.param({"prompt": "write freely"}, id="unknown key"),
        pytest.param({"action": "draft_note"}, id="another action"),
        pytest.param({"sections": [{"id": "a", "title": "A"}, {"id": "a", "title": "B"}]}, id="same id twice"),
        pytest.param(
            {"sections": [{"id": "a", "title": "A", "rest": True}, {"id": "b", "title": "B", "rest": True}]},
            id="two take the rest",
        ),
        pytest.param({"sections": [{"id": "a", "title": "A", "rest": True, "carried": "drug"}]}, id="rest and more"),
        pytest.param({"version": 0}, id="version"),
    ],
)
def test_what_is_not_a_template_is_refused(change: dict[str, Any]) -> None:
    """Unknown keys, wrong types, contradictions."""
    DocumentTemplate(**text())
    with pytest.raises(ValidationError):
        DocumentTemplate(**{**text(), **change})


def test_unknown_names_are_refused() -> None:
    """As a mistake of whoever chose, or of the program."""
    with pytest.raises(InputError):
        require_document("../../etc/passwd")
    with pytest.raises(ConfigError) as caught:
        load_document_template("soap")
    assert caught.value.code == "template_unknown"


def test_a_document_of_another_template_has_none() -> None:
    """Once the template has changed, or is gone, its documents can be read and not edited."""
    document = document_of(load_document_template("referral_letter"), source())
    assert template_of(document) is load_document_template("referral_letter")
    assert template_of(document.model_copy(update={"template_sha256": "0" * 64})) is None
    assert template_of(document.model_copy(update={"template": "gone"})) is None
