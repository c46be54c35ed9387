"""Requests written as JSON: what is wrong is named, and nothing of what was written is repeated."""

from __future__ import annotations

import json

import pytest

from clinic.errors import InputError
from clinic.policy.request import PolicyRequest
from tests.unit.policy.policy_samples import allowed_request


@pytest.mark.parametrize(
    ("text", "named"),
    [
        pytest.param("{", "(document)", id="not JSON"),
        pytest.param("[]", "(document)", id="not an object"),
        pytest.param(json.dumps({**allowed_request(), "patient": "Ada"}), "`patient`", id="unknown key"),
        pytest.param(json.dumps(allowed_request(words="Ada Lovelace")), "`context.words`", id="wrong type"),
        pytest.param(json.dumps(allowed_request(model="Ada Lovelace")), "`context.model`", id="not an id"),
    ],
)
def test_wrong_request_is_named_without_its_content(text: str, named: str) -> None:
    """The error names the key, and never repeats a value."""
    with pytest.raises(InputError) as caught:
        PolicyRequest.from_json(text)
    assert caught.value.code == "request_invalid"
    assert named in str(caught.value)
    assert "Ada" not in str(caught.value)
    assert caught.value.__cause__ is None
