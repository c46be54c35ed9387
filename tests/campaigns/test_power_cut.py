"""A power cut at any call, in thousands of forms: nothing acknowledged is lost, nothing is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from clinic.config import Config
from tests.campaigns.audited_requests import check
from tests.campaigns.power_cut import TRACED, Recording, States, committed_states, cut_everywhere, read_trace, snapshot
from tests.campaigns.processes import Requests, Work, copy_home, recording_model
from tests.campaigns.test_syscall_faults import needs_strace, traced

pytestmark = needs_strace


def record(config: Config, folder: Path, work: Work) -> tuple[Recording, States]:
    """Record the calls of so many requests, from an opened file to a closed one."""
    home = copy_home(config, folder / "h")
    with recording_model(folder) as model:
        child = Requests(home.home, model, work)
        base = snapshot(home.home)
        log = folder / "trace.txt"
        with traced(child.pid, log, "-xx", "-s", "1000000", "-e", TRACED):
            child.go()
            assert child.finish() == 0
        assert check(home, model.seen(), child.acknowledged).violations == ()
    assert len(child.acknowledged.steps) == 5 * work.count
    recording = read_trace(log.read_text(), home.home, base)
    log.unlink()
    assert recording.acks == 5 * work.count
    images = folder / "images"
    images.mkdir()
    return recording, committed_states(recording, images)


def test_power_cuts_short(config: Config, tmp_path: Path) -> None:
    """300 images of three requests: nothing lost, nothing corrupt."""
    recording, states = record(config, tmp_path, Work(count=3))
    assert len(states.digests) > 15
    cuts = cut_everywhere(recording, states, tmp_path / "images", images=300)
    assert (cuts.lost, cuts.corrupt) == (0, 0), cuts.examples[:5]
    assert len(cuts.different) > 100


def test_without_waiting_for_the_disk_rows_are_lost_short(config: Config, tmp_path: Path) -> None:
    """The control: with `synchronous=NORMAL` the same images show acknowledged rows that are gone."""
    recording, states = record(config, tmp_path, Work(count=3, synchronous="NORMAL"))
    assert cut_everywhere(recording, states, tmp_path / "images", images=100).lost > 10


@pytest.mark.campaign
@pytest.mark.timeout(7200)
def test_power_cuts(config: Config, tmp_path: Path) -> None:
    """20,000 images, with automatic checkpoints in them: 0 lost, 0 corrupt; the control loses more than 100."""
    recording, states = record(config, tmp_path, Work(count=40, audio=30_000))
    cuts = cut_everywhere(recording, states, tmp_path / "images", images=20_000)
    print(f"\n{len(recording.ops)} calls, {recording.acks} acknowledgements, {len(states.digests)} states")  # noqa: T201
    print(f"synchronous=FULL: {cuts.line()}")  # noqa: T201 - the numbers that docs/assurance.md reports
    print("\n".join(cuts.examples[:20]))  # noqa: T201 - what a long campaign found must not get lost
    (tmp_path / "control").mkdir()
    recording, states = record(config, tmp_path / "control", Work(count=40, audio=30_000, synchronous="NORMAL"))
    control = cut_everywhere(recording, states, tmp_path / "control" / "images", images=2_000)
    print(f"control, synchronous=NORMAL: {control.line()}")  # noqa: T201 - as above
    assert (cuts.images, cuts.lost, cuts.corrupt) == (20_000, 0, 0)
    assert control.lost > 100
