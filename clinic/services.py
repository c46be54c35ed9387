"""The wired system: every part built once from the configuration, handed on as one frozen value.

No global, no registry: whoever needs a part receives `Services`, or the part itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from clinic.audit.events import GenerationAuthorized, from_canonical
from clinic.config import Config
from clinic.consultation import Consultation, Progress
from clinic.crypto.keys import Keyring, Purpose
from clinic.domain import OPERATOR, EncounterId, Reason
from clinic.errors import RecordError
from clinic.failures import denying_policies
from clinic.generation.client import ModelClient
from clinic.generation.generator import Generator
from clinic.generation.profiles import Profile, load_profile
from clinic.home import open_records
from clinic.jobs.queue import JobQueue
from clinic.policy.activation import PolicyStore, policy_signer
from clinic.policy.load import PolicySet
from clinic.records.records import Records
from clinic.speech.decode import wav_clip
from clinic.speech.names import Names, read_formulary
from clinic.speech.sharing import SharedTranscriber
from clinic.speech.transcriber import Transcriber
from clinic.speech.voice import load_voice_encoder
from clinic.speech.whisper import WhisperTranscriber, load_transcriber
from clinic.verification.vocabulary import drug_names

_Model = TypeVar("_Model")

_NOTICES = {
    "flag:injection": "Something in what was said reads like an instruction to the machine. It was treated as speech; "
    "read this draft with particular care.",
    "flag:scope": "What was typed reads like a request for something that this assistant is not for. It was treated as "
    "text to summarise; read this draft with particular care.",
    "flag:break_glass": "The glass was broken for this encounter. The administrator sees who did it and why.",
    "flag:teaching": "This clinic runs the teaching policies: this draft is for practice, not for care.",
}
"""Obligation -> what the clinician reads."""


@dataclass(frozen=True, slots=True)
class Services:
    """What the web form works with."""

    config: Config
    records: Records
    queue: JobQueue
    policy: PolicySource
    profile: Profile
    session_key: bytes

    @property
    def model_label(self) -> str:
        """The writing model, in words for people."""
        return self.profile.label

    @property
    def jobs(self) -> JobQueue:
        """Where the background jobs are put."""
        return self.queue

    def clip(self, encounter_id: EncounterId, start: float, end: float) -> bytes:
        """Return the seconds `start` to `end` of an encounter's recording as WAV bytes.

        Raises:
            RecordError: the encounter has no recording.
        """
        with self.records.read() as tx:
            recording = tx.recordings.for_encounter(encounter_id)
            if recording is None:
                raise RecordError("this encounter has no recording", hint="a typed or dictated text has none")
            return wav_clip(tx.recordings.chunks(recording.id), start, end)

    def notices(self, encounter_id: EncounterId) -> tuple[str, ...]:
        """Return what the clinician must be told about a draft."""
        return notices(self.records, encounter_id)

    def denial(self, encounter_id: EncounterId) -> tuple[Reason, ...]:
        """Return why the policy refused an encounter, one reason for each policy; empty if it did not."""
        with self.records.read() as tx:
            code = tx.encounters.get(encounter_id).error_code or ""
        messages = self.policy().messages
        return tuple(
            Reason(code=policy, message=messages.get(policy, f"policy `{policy}`")) for policy in denying_policies(code)
        )


def notices(records: Records, encounter_id: EncounterId) -> tuple[str, ...]:
    """Return what the policy obliges us to tell the clinician about a draft, as recorded in the audit log."""
    with records.read() as tx:
        generation = tx.generations.completed_for(encounter_id)
    return () if generation is None else notices_of(records, generation.audit_seq)


def notices_of(records: Records, audit_seq: int) -> tuple[str, ...]:
    """Return what an authorization, by the number of its entry, obliges us to tell the clinician."""
    entry = next(iter(records.audit.entries(first=audit_seq, last=audit_seq)))
    event = from_canonical(entry.event, entry.body)
    obligations = event.obligations if isinstance(event, GenerationAuthorized) else ()
    return tuple(text for obligation, text in _NOTICES.items() if obligation in obligations)


class PolicySource(PolicyStore):
    """Gives the policy set that was activated last; the first start activates the one that ships."""

    def __init__(self, config: Config, records: Records) -> None:
        super().__init__(config.policies_dir, records.audit, policy_signer(records.policy_seed))
        self.ensure(config.policy.directory, config.policy.profile, actor=OPERATOR)

    def __call__(self) -> PolicySet:
        """Return the active set."""
        return self.current()


def build_services(config: Config, keyring: Keyring) -> Services:
    """Wire the web process."""
    records = open_records(config, keyring)
    return Services(
        config=config,
        records=records,
        queue=JobQueue(config),
        policy=PolicySource(config, records),
        profile=load_profile(config.generation.profile, config.profiles_dir),
        session_key=keyring.derive(Purpose.SESSION),
    )


def build_consultation(
    config: Config,
    records: Records,
    *,
    transcriber: Callable[[], Transcriber] | None = None,
    generator: Callable[[], Generator] | None = None,
    progress: Progress | None = None,
) -> Consultation:
    """Wire the flow: for the worker, or for one run on the command line."""
    return Consultation(
        records,
        policy_set=PolicySource(config, records),
        transcriber=transcriber or _Once(lambda: recogniser(config)),
        speakers=_Once(lambda: load_voice_encoder(config.models_dir)) if config.speech.speakers else None,
        generator=generator or (lambda: model_client(config)),
        max_audio_s=config.speech.max_duration_s,
        progress=progress,
    )


def shared_recogniser(config: Config) -> SharedTranscriber:
    """Return the recogniser for the worker, which hears recordings in passing, too; loaded at first use."""
    return SharedTranscriber(lambda: recogniser(config))


def recogniser(config: Config) -> WhisperTranscriber:
    """Load the recogniser, with the names of drugs that it listens for.

    Raises:
        ConfigError: `weights_missing`, `weights_damaged`; `formulary_invalid`.
    """
    if not config.speech.drug_names:
        return load_transcriber(config)
    table = drug_names()
    formulary = read_formulary(config.speech.formulary) if config.speech.formulary else ()
    single = [name for name in table if " " not in name]
    others = [variant for variants in table.values() for variant in variants]
    return load_transcriber(config, Names([*single, *formulary], known=others))


def model_client(config: Config) -> ModelClient:
    """Return a client for the configured model server."""
    profile = load_profile(config.generation.profile, config.profiles_dir)
    return ModelClient(config.model_socket, profile=profile, timeout_s=config.generation.timeout_s)


class _Once(Generic[_Model]):
    """Builds a model at first use and keeps it: loading takes seconds."""

    def __init__(self, build: Callable[[], _Model]) -> None:
        self._build = build
        self._built: _Model | None = None

    def __call__(self) -> _Model:
        if self._built is None:
            self._built = self._build()
        return self._built
