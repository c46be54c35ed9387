"""A worker that kills itself, as a power cut would, when a stage has got so far: `HOME STAGE DONE`.

The real worker, the real job store, the real flow; only the moment of death is chosen.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from clinic.config import Config
from clinic.domain import Stage
from clinic.home import open_records, unlock_home
from clinic.jobs.worker import run_worker
from clinic.services import build_consultation


def main() -> None:
    """Run the worker until it is told to die, or for ever where STAGE is `never`."""
    home, stage, done = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])

    def progress(reached: Stage, fraction: float) -> None:
        if reached.value == stage and fraction >= done:
            os.kill(os.getpid(), signal.SIGKILL)

    config = Config.load(home)
    records = open_records(config, unlock_home(config))
    run_worker(config, build_consultation(config, records, progress=progress), records)


if __name__ == "__main__":
    main()
