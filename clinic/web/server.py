"""The web process: gunicorn with one process, several threads, TLS.

One process, because there is one clinic, one SQLite writer and one rate limiter; threads share them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from flask import Flask
from gunicorn.app.base import BaseApplication

from clinic.config import Config

_THREADS: Final = 8
_TIMEOUT_S: Final = 120
_GRACE_S: Final = 8


class WebServer(BaseApplication):  # type: ignore[misc]  # gunicorn ships no types
    """Serves one Flask application over HTTPS on the LAN.

    Args:
        make_application: called in the serving process, after the fork: a database connection must not cross one.
        config: names the address and the certificate.
    """

    def __init__(self, make_application: Callable[[], Flask], config: Config) -> None:
        self._make_application = make_application
        self._config = config
        super().__init__()

    def load_config(self) -> None:
        """Set gunicorn's options; nothing is read from its own files or environment."""
        options: dict[str, Any] = {
            "bind": f"{self._config.web.host}:{self._config.web.port}",
            "workers": 1,
            "worker_class": "gthread",
            "threads": _THREADS,
            "timeout": _TIMEOUT_S,
            "graceful_timeout": _GRACE_S,
            "certfile": str(self._config.tls_dir / "server.pem"),
            "keyfile": str(self._config.tls_dir / "server.pem"),  # one file: key and certificate always fit
            "accesslog": None,  # who read what is in the audit log; a second, clear list would be one too many
            "errorlog": "-",
            "loglevel": "warning",
            "control_socket_disable": True,
        }
        for key, value in options.items():
            self.cfg.set(key, value)

    def load(self) -> Flask:
        """Return the application."""
        return self._make_application()


def serve(make_application: Callable[[], Flask], config: Config) -> None:
    """Serve until SIGTERM."""
    WebServer(make_application, config).run()
