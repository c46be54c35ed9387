"""What a clinician reads when a background job stopped: the job store and the records keep only codes.

One table, code to message and hint.  `denied:` is followed by the ids of the policies that fired; their messages come
from the policy set itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

DENIED_PREFIX: Final = "denied:"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job stopped, in plain words."""

    code: str
    message: str
    hint: str


_RECORD_AGAIN = "record again, or type the note; the recording is kept"
_TRY_AGAIN = "try again; the recording and the transcript are kept"

FAILURES: Final[dict[str, tuple[str, str]]] = {
    "audio_empty": ("the recording is empty", _RECORD_AGAIN),
    "audio_unreadable": ("the recording cannot be read as audio", "upload webm, ogg, mp3, m4a, wav or flac"),
    "audio_too_short": ("the recording is too short to hold speech", _RECORD_AGAIN),
    "audio_too_long": ("the recording is longer than this clinic allows", "split it, or raise `speech.max_duration_s`"),
    "audio_incomplete": (
        "parts of the recording have not arrived",
        "open the page that recorded it: it sends them again",
    ),
    "no_speech": ("no speech was heard in the recording, so there is no note", "check the microphone and record again"),
    "transcription_failed": ("the recording could not be transcribed", _TRY_AGAIN),
    "model_unavailable": (
        "the model server does not answer",
        "tell the administrator (`clinic doctor`); then try again",
    ),
    "model_interrupted": ("the model server stopped half-way", _TRY_AGAIN),
    "model_timeout": ("the model server took too long", _TRY_AGAIN),
    "model_refused": ("the model server refused the request", "tell the administrator (`clinic doctor`)"),
    "model_mismatch": ("the model server runs another model than configured", "tell the administrator"),
    "model_unpinned": ("the configured model is not pinned by its digest", "tell the administrator"),
    "adapter_without_effect": ("the model's adapter does not belong to it", "tell the administrator"),
    "output_empty": (
        "the model found nothing to write",
        "the transcript is kept; write the note yourself, or try again",
    ),
    "consent_missing": (
        "the patient's consent is not recorded as given",
        "nothing was stored; record the patient's answer, then try again",
    ),
    "job_failed": ("the job stopped the worker again and again", "tell the administrator (`clinic doctor`)"),
    "obligation_unmet": ("the note would need more than the policy allows", "split the consultation"),
    "unexpected": ("an internal error stopped the job", "try again; tell the administrator if it happens again"),
    "model_not_confined": (
        "the model server cannot be shut off from the network, so it was not started",
        "`clinic doctor`",
    ),
    "output_invalid": ("the model's answer was not a usable note, twice", _TRY_AGAIN),
    "output_truncated": ("the model's answer was cut off", "try again; a shorter recording may be needed"),
    "audit_unavailable": (
        "the audit log cannot be written, so nothing is generated",
        "tell the administrator (`clinic doctor`)",
    ),
    "audit_latched": (
        "the audit log stopped everything after a failure",
        "tell the administrator (`clinic audit verify --clear`); then try again",
    ),
    "disk_full": ("the disk is full or cannot be written", "tell the administrator; nothing acknowledged is lost"),
    "policy_invalid": (
        "the policy set cannot be used, so nothing is generated",
        "`clinic policy check` names the line",
    ),
    "sealed_data_damaged": (
        "stored data failed its integrity check",
        "stop, and restore from a backup (`clinic doctor`)",
    ),
    "policy_set_damaged": (
        "the active policy set was changed on disk, so nothing is decided",
        "tell the administrator (`clinic policy list`)",
    ),
    "policy_inactive": ("no policy set is active, so nothing is decided", "tell the administrator"),
    "output_forbidden": ("the model's answer held something that a note must not hold", _TRY_AGAIN),
    "patient_shredded": (
        "the patient's record was destroyed while the job ran",
        "nothing can bring it back; the audit log says when and by whom",
    ),
    "worker_unavailable": ("the job could not be started", _TRY_AGAIN),
}


def denying_policies(code: str) -> tuple[str, ...]:
    """Return the ids of the policies in a `denied:` code; none for any other code."""
    return tuple(code.removeprefix(DENIED_PREFIX).split(",")) if code.startswith(DENIED_PREFIX) else ()


def describe(code: str) -> Failure:
    """Return the words for `code`; an unknown code is shown as it is, never hidden."""
    if denying_policies(code):
        return Failure(code="denied", message="the policy refused this draft", hint="nothing was sent to the model")
    message, hint = FAILURES.get(code, (f"the job stopped: `{code}`", _TRY_AGAIN))
    return Failure(code=code, message=message, hint=hint)
