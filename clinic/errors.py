"""Errors: what happened, what it means, what to do next.

Rules kept here:

* Every error that a user can meet is a `ClinicError` with a stable `code`, a one-line message and a `hint`.
* Neither message nor hint ever holds patient text, a prompt, a model's answer or a key.
* The class decides how the error leaves the program: `exit_code` on the command line, `http_status` on the web.
* Messages are lower case, one line, without a final period; ids stand in backticks.

The tree (codes in parentheses are documented in `docs/errors.md`; a test holds the two together)::

    ClinicError                     never raised itself
    +-- ConfigError                 (config_invalid, home_missing, home_exists, ...)
    +-- SealedError                 (sealed, key_wrong, key_missing, key_file_damaged, ...)
    +-- DecryptionError             (sealed_data_damaged)
    +-- AuditError                  (audit_unavailable, audit_damaged)
    |   +-- AuditLatchedError       (audit_latched)
    +-- PolicyError                 (policy_invalid, policy_failed)
    +-- PolicyDeniedError           (denied)
    +-- AudioError                  (audio_empty, audio_unreadable, audio_too_long, ...)
    +-- TranscriptionError          (no_speech, transcription_failed)
    +-- GenerationError             (model_unavailable, model_interrupted, output_invalid, ...)
    +-- RecordError                 (record_unknown, record_conflict, note_locked, flags_open, ...)
    +-- AuthenticationError         (login_failed, login_locked, not_allowed)
    +-- StorageError                (disk_full)
    +-- JobError                    (job_failed, worker_unavailable)
    +-- BackupError                 (backup_damaged, backup_foreign, backup_older, ...)
    +-- BundleError                 (bundle_damaged, bundle_signature, ...)
    +-- InputError                  (input_invalid)
"""

from __future__ import annotations

from typing import ClassVar, Final

HTTP_STATUS: Final[dict[str, int]] = {
    "patient_shredded": 410,
    "record_conflict": 409,
    "record_unknown": 404,
    "note_empty": 409,
    "note_locked": 409,
    "note_unsigned": 409,
    "omission_unknown": 409,
    "statement_unknown": 409,
    "chunk_too_large": 413,
    "flags_open": 409,
    "document_locked": 409,
    "section_empty": 409,
    "source_changed": 409,
    "template_changed": 409,
    "consent_missing": 409,
    "step_unavailable": 409,
    "audio_incomplete": 409,
    "login_locked": 429,
    "factor_locked": 429,
    "factor_missing": 409,
    "factor_enrolled": 409,
    "factor_wrong": 422,
    "factor_used": 422,
    "factor_required": 403,
    "proof_missing": 422,
    "invitation_refused": 422,
    "entry_unknown": 404,
    "passkeys_full": 409,
    "passkey_needs_name": 409,
    "database_busy": 503,
    "not_allowed": 403,
    "not_in_charge": 403,
    "signed_out": 401,
    "token_account": 409,
    "scope_missing": 403,
    "request_in_progress": 409,
}
"""The HTTP status of codes for which the class of the error is too coarse."""


def http_status(error: ClinicError) -> int:
    """Return the HTTP status with which an error leaves the program."""
    return HTTP_STATUS.get(error.code, error.http_status)


class ClinicError(Exception):
    """Root of all expected errors.  Never raised itself.

    Attributes:
        code: stable identifier for audit, API and UI (`snake_case`).
        hint: what the reader can do next, for people.
    """

    default_code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, *, code: str | None = None, hint: str = "") -> None:
        super().__init__(message)
        self.code = code or self.default_code
        self.hint = hint


class ConfigError(ClinicError):
    """Raised when the data folder or its configuration cannot be used; the administrator must mend it."""

    default_code = "config_invalid"
    exit_code = 2


class SealedError(ClinicError):
    """Raised when the clinic key is not at hand: unlock first."""

    default_code = "sealed"
    exit_code = 3
    http_status = 503


class DecryptionError(ClinicError):
    """Raised when sealed data fails authentication: damaged, moved, swapped or sealed under another key."""

    default_code = "sealed_data_damaged"


class AuditError(ClinicError):
    """Raised when the audit log cannot be written or does not verify.  The caller must stop what it was about to do."""

    default_code = "audit_unavailable"
    http_status = 503


class AuditLatchedError(AuditError):
    """Raised while the audit log is latched: it failed once, and stays refused until it has been verified."""

    default_code = "audit_latched"
    exit_code = 5


class PolicyError(ClinicError):
    """Raised when the policy set cannot be loaded or evaluated.  Means deny."""

    default_code = "policy_invalid"
    http_status = 503


class PolicyDeniedError(ClinicError):
    """Raised when a policy said no; `policies` are the ids that fired, `hint` is what the clinician reads."""

    default_code = "denied"
    exit_code = 4
    http_status = 403

    def __init__(
        self, message: str, *, policies: tuple[str, ...] = (), code: str | None = None, hint: str = ""
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.policies = policies


class InputError(ClinicError):
    """Raised when what the user handed over cannot be used as it is; nothing was changed."""

    default_code = "input_invalid"
    exit_code = 2
    http_status = 422


class AudioError(InputError):
    """Raised when a recording cannot be used (empty, not audio, too long, incomplete)."""

    default_code = "audio_unreadable"
    exit_code = 1


class TranscriptionError(ClinicError):
    """Raised when a recording yields no transcript: it holds no speech, or the recogniser failed."""

    default_code = "transcription_failed"
    http_status = 422


class GenerationError(ClinicError):
    """Raised when no valid draft came back.  The encounter is unharmed; the same step may be tried again."""

    default_code = "model_unavailable"
    exit_code = 5
    http_status = 503


class RecordError(ClinicError):
    """Raised when a record does not exist or is not in a state that allows the operation."""

    default_code = "record_unknown"
    http_status = 404


class AuthenticationError(ClinicError):
    """Raised when somebody is not who they say, or may not do this."""

    default_code = "login_failed"
    exit_code = 4
    http_status = 401


class StorageError(ClinicError):
    """Raised when the disk refuses: full, read-only, gone.  Nothing was acknowledged."""

    default_code = "disk_full"
    exit_code = 5
    http_status = 507


class JobError(ClinicError):
    """Raised when a background job cannot be started or has failed for good."""

    default_code = "job_failed"
    exit_code = 5
    http_status = 503


class BackupError(ClinicError):
    """Raised when a backup cannot be made, opened or restored.  Neither the clinic nor any other backup was changed."""

    default_code = "backup_damaged"
    http_status = 503


class BundleError(ClinicError):
    """Raised when a bundle is not what was signed, or its key cannot be used.  Nothing was installed or changed."""

    default_code = "bundle_damaged"
