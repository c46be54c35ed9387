"""llama.cpp's HTTP server as a child process on a Unix socket.

Rules kept here:

* Only a proven server appears at the final socket path: it starts at a temporary one, and moves there after the canary.
* An adapter that does not change the answer is no adapter: the child ends with `EXIT_ADAPTER_WITHOUT_EFFECT`.
* Nothing is offered but the API (no web page, slots, metrics or tools), nothing is logged but errors.
* The prompt cache holds one conversation in memory; no other is kept beside it.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path
from typing import Any

EXIT_ADAPTER_WITHOUT_EFFECT = 79
EXIT_NOT_LOADED = 80

_ERRORS_ONLY = 1
_CANARY_TOKENS = 16


def parameters(args: argparse.Namespace, socket: Path) -> Any:
    """Return llama.cpp's parameters; every path that could write or fetch something is off."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(args.model)
    params.model_alias = {args.name}
    params.hostnames = [str(socket)]
    params.n_ctx = args.context
    params.n_parallel = 1  # the context is divided by it, and a clinic drafts one note at a time here
    for cpu in (params.cpuparams, params.cpuparams_batch):
        cpu.n_threads = args.threads
        cpu.poll = 0
    params.n_gpu_layers = 0
    params.offline = True
    params.ui = False
    params.endpoint_slots = params.endpoint_props = params.endpoint_metrics = False
    params.cache_ram_mib = 0  # no copies of earlier patients' prompts beside the one in use
    params.cache_idle_slots = False
    params.verbosity = _ERRORS_ONLY
    if args.adapter is not None:
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(args.adapter), 1.0)]
    return params


def adapter_has_effect(server: Any, canary: str) -> bool:
    """Ask the canary with the adapter at full strength and without it: True if the answers differ."""
    answers = []
    for scale in (1.0, 0.0):
        answer = server.handle_completions(
            {
                "prompt": canary,
                "max_tokens": _CANARY_TOKENS,
                "n_predict": _CANARY_TOKENS,
                "temperature": 0,
                "seed": 1,
                "cache_prompt": False,
                "lora": [{"id": 0, "scale": scale}],
            }
        )
        answers.append(answer["choices"][0]["text"])
    return bool(answers[0] != answers[1])


def main() -> int:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--canary", default="")
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--context", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    import xllamacpp

    starting = args.socket.with_name(f"{args.socket.stem}.starting.sock")
    starting.unlink(missing_ok=True)
    try:
        server = xllamacpp.Server(parameters(args, starting))
    except RuntimeError as error:  # its message names the file, nothing else
        sys.stderr.write(f"llama.cpp did not load the model: {error}\n")
        return EXIT_NOT_LOADED
    if args.adapter is not None and not adapter_has_effect(server, args.canary):
        sys.stderr.write("the adapter does not change the answer\n")
        return EXIT_ADAPTER_WITHOUT_EFFECT
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):  # only now: loading may simply be killed
        signal.signal(number, lambda *_: stop.set())
    starting.chmod(0o600)
    starting.rename(args.socket)
    stop.wait()
    del server
    return 0


if __name__ == "__main__":
    sys.exit(main())
