"""What a process that holds keys does first: no core dump, no debugger, no look into its memory.

Rules kept here:

* Fails loudly: a process that cannot be protected does not go on to hold keys.
* Every process calls it for itself, since `exec` resets the kernel's flag (the core limit is inherited).

Trap: until `exec`, a child forked from a hardened process owns none of its `/proc` files.  A child that enters a user
namespace must do so after `exec` (`unshare`, `bwrap`, a module run with -m), not in a `preexec_fn`.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal

from clinic.errors import ConfigError

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4


def harden_process() -> None:
    """Forbid core dumps of this process, and reading its memory by other processes of the same user.

    Raises:
        ConfigError: `process_unprotected`.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(_PR_SET_DUMPABLE, 0)


def die_with_parent() -> None:
    """Ask the kernel for SIGTERM when whoever started this process is gone, however it went.

    The signal follows the thread that started us: start children only from threads that live as long as their process.

    Raises:
        ConfigError: `process_unprotected`.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        raise ConfigError(
            f"the process cannot be protected: {os.strerror(ctypes.get_errno()).lower()}",
            code="process_unprotected",
            hint="keys would be readable by other programs of the same user; run on Linux, without a filter on prctl",
        )
