"""What earlier notes say of allergies and drugs, quoted."""

from __future__ import annotations

import doctest

import pytest

from clinic.verification import carried as module
from clinic.verification.carried import carried


@pytest.mark.parametrize(
    ("section", "text", "expected"),
    [
        pytest.param("allergies", "Penicillin (rash).", {"allergy": ("Penicillin",)}, id="listed"),
        pytest.param("allergies", "None known.", {"allergy": ()}, id="none-known"),
        pytest.param("allergies", "Peanuts.", {"allergy": ()}, id="no-drug"),
        pytest.param("subjective", "NKDA", {"allergy": ()}, id="denied"),
        pytest.param("subjective", "Allergic to latex.", {"allergy": ()}, id="stated"),
        pytest.param("subjective", "Anaphylaxis to peanuts.", {"allergy": ()}, id="anaphylaxis"),
        pytest.param("subjective", "Reaction to codeine.", {"allergy": (), "drug": ("codeine",)}, id="reaction"),
        pytest.param("subjective", "Mother is allergic to aspirin.", {"allergy": ("aspirin",)}, id="relative"),
        pytest.param(
            "plan", "Allergic to penicillin; start azithromycin 500 mg.",
            {"allergy": ("penicillin",), "drug": ("azithromycin",)}, id="both",
        ),
        pytest.param("plan", "Stop warfarin, avoid ibuprofen.", {"drug": ("warfarin", "ibuprofen")}, id="withheld"),
        pytest.param("plan", "Continue Tylenol.", {"drug": ("Tylenol",)}, id="brand"),
        pytest.param("plan", "Take ibuprofen, then ibuprofen again.", {"drug": ("ibuprofen",)}, id="twice"),
        pytest.param("subjective", "Cough for two weeks.", {}, id="neither"),
        pytest.param("allergies", "Not discussed.", {}, id="claims-nothing"),
        pytest.param("subjective", "Hay fever in spring.", {}, id="hay-fever"),
    ],
)  # fmt: skip
def test_statement_is_quoted_for(section: str, text: str, expected: dict[str, tuple[str, ...]]) -> None:
    """Whole, for what it speaks of, with the names that stand in it."""
    found = carried(section, text)
    assert {quoted.kind.value: quoted.names for quoted in found} == expected
    assert all(quoted.text == text for quoted in found)


def test_example_holds() -> None:
    """The module's example is true."""
    assert doctest.testmod(module).failed == 0
