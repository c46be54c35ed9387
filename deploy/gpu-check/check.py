"""Checks and measures a model profile on the machine it is meant for, and writes a report.

    .venv/bin/python deploy/gpu-check/check.py --profile /etc/clinic/gemma-4-12b.toml --report report.json

It goes the clinic's own way: a data folder of its own for the time of the check, the real launcher, policies (the
model's digest is pinned for this run only), audit log and client.  Every number is of whole notes of an invented visit:
decided, recorded, generated and verified.  The report holds no text.

**It has not been run on a GPU.**  On a machine without one it was run with the embedded profile.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile  # noqa: TID251 - the sample visit is invented, and the folder goes at the end
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from clinic.audit.events import GenerationCompleted, from_canonical
from clinic.config import Config
from clinic.domain import Consent
from clinic.errors import ClinicError
from clinic.generation.launcher import ModelServer, model_server
from clinic.generation.profiles import Profile, load_profile
from clinic.headless import draft_from_transcript
from clinic.home import HomeOptions, create, open_records, unlock_home
from clinic.records.records import Records
from clinic.speech.text import text_to_transcript

ROOT = Path(__file__).resolve().parents[2]
_PIN = re.compile(r"unless \{\s*\[\s*")
_VISIT = """\
Doctor: What brings you in today?
Patient: I have had a very sore throat for four days. I take ibuprofen, 400 milligrams three times a day.
Doctor: Are you allergic to anything?
Patient: Yes, to penicillin.
Doctor: Your temperature is 38.4 degrees. I will prescribe azithromycin, 500 milligrams once a day for three days.
"""


def prepare(folder: Path, profile_name: str) -> tuple[Config, Profile]:
    """Make the data folder of the check, with policies that pin this model."""
    options = HomeOptions(insecure_key_file=True, models=ROOT / ".cache" / "models")
    config = create(folder / "home", options).config
    profile = load_profile(profile_name, config.profiles_dir)
    policies = folder / "policies"
    shutil.copytree(ROOT / "policies", policies)
    pins = policies / "pins.cedar"
    pins.write_text(
        _PIN.sub(rf'\g<0>"{profile.sha256}", ', pins.read_text(encoding="utf-8"), count=1), encoding="utf-8"
    )
    name = profile_name if "/" not in profile_name else str(Path(profile_name).resolve())
    settings = config.home / "clinic.toml"
    text = settings.read_text(encoding="utf-8")
    sections = f'\n[generation]\nprofile = "{name}"\n\n[policy]\ndirectory = "{policies}"\n'
    settings.write_text(text + sections, encoding="utf-8")
    return Config.load(config.home), profile


def draft(config: Config, records: Records) -> tuple[str, float]:
    """Draft one note; return how it ended and after how many seconds."""
    started = time.monotonic()
    try:
        draft_from_transcript(
            config,
            records,
            text_to_transcript(_VISIT, language="en"),
            template="soap",
            consent=Consent.GIVEN,
            progress=lambda _stage, _done: None,
            heard=lambda _transcript: None,
        )
    except ClinicError as error:
        return error.code, time.monotonic() - started
    return "valid", time.monotonic() - started


def tokens(records: Records) -> int:
    """Return the tokens of all answers so far, as the audit log has them."""
    events = (from_canonical(entry.event, entry.body) for entry in records.audit.entries())
    return sum(event.tokens_out for event in events if isinstance(event, GenerationCompleted))


def measure(config: Config, records: Records, *, at_once: int, count: int) -> dict[str, Any]:
    """Draft `count` notes, `at_once` side by side."""
    before, started = tokens(records), time.monotonic()
    with ThreadPoolExecutor(at_once) as pool:
        ends = list(pool.map(lambda _number: draft(config, records), range(count)))
    elapsed = time.monotonic() - started
    seconds = [taken for _, taken in ends]
    return {
        "at_once": at_once,
        "notes": count,
        "ends": dict(Counter(end for end, _ in ends)),
        "seconds_median": round(statistics.median(seconds), 2),
        "seconds_longest": round(max(seconds), 2),
        "tokens_per_second": round((tokens(records) - before) / elapsed, 1),
    }


def gpus() -> list[str]:
    """Return what the driver says of each GPU; empty without one."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,memory.used,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []


def check(folder: Path, profile_name: str, count: int) -> dict[str, Any]:
    """Run every check and return the report."""
    config, profile = prepare(folder, profile_name)
    server = model_server(config, say=print)
    if not isinstance(server, ModelServer):
        raise SystemExit("the profile's server is somebody else's: nothing to start")
    started = time.monotonic()
    server.start()  # weights against the profile's digest, no network, the adapter's canary: or it does not start
    report: dict[str, Any] = {
        "profile": profile.model_dump(mode="json"),
        "model": profile.served_name,
        "seconds_to_ready": round(time.monotonic() - started, 1),
    }
    try:
        report["processes_confined"] = [item.confined for item in server.evidence()]
        report["gpus"] = gpus()
        records = open_records(config, unlock_home(config))
        report["first_note"] = measure(config, records, at_once=1, count=1)
        report["runs"] = [measure(config, records, at_once=at_once, count=count) for at_once in (1, 4, 8)]
        report["audit_log_verifies"] = records.audit.verify().ok
    finally:
        server.stop()
    return report


def main() -> int:
    """Check, write the report, end with 1 if any note did not come out whole."""
    parser = argparse.ArgumentParser(description="check a model profile on this machine")
    parser.add_argument("--profile", required=True, help="a profile by name, or a path to one")
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--notes", type=int, default=16, help="notes for each of 1, 4 and 8 at once")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gc") as folder:
        report = check(Path(folder), args.profile, args.notes)
    args.report.write_text(json.dumps(report, indent=1), encoding="utf-8")
    print(json.dumps({name: report[name] for name in ("model", "seconds_to_ready", "gpus", "runs")}, indent=1))
    whole = all(set(run["ends"]) == {"valid"} for run in report["runs"]) and all(report["processes_confined"])
    return 0 if whole and report["audit_log_verifies"] else 1


if __name__ == "__main__":
    sys.exit(main())
