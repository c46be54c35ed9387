"""`clinic models`: which weights a profile names, and whether they are the ones on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from clinic.cli.common import home_option, json_option, load_config, out, print_json
from clinic.generation.launcher import located_weights
from clinic.generation.profiles import Profile, folder_sha256, load_profile
from clinic.weights import file_sha256


@click.group()
def models() -> None:
    """The models of this machine, against the profiles that name them."""


@models.command()
@click.option("--profile", "name", help="A profile by name or path.  Default: the configured one.")
@home_option
@json_option
@click.pass_context
def verify(ctx: click.Context, *, name: str | None, as_json: bool) -> None:
    """Read weights and adapter, print their SHA-256; exit 1 unless they are the ones that the profile pins."""
    config = load_config()
    profile = load_profile(name or config.generation.profile, config.profiles_dir)
    found = [
        {"part": part, "path": str(path), "sha256": actual, "pinned": pinned, "ok": actual == pinned}
        for part, path, pinned in _parts(profile, config.models_dir)
        for actual in [_sha256(path)]
    ]
    if as_json:
        print_json({"profile": profile.id, "model": profile.served_name, "parts": found})
    else:
        for item in found:
            state = "as pinned" if item["ok"] else "NOT PINNED" if item["pinned"] is None else "NOT WHAT IS PINNED"
            out.print(f'{item["part"]}: {item["path"]}\n  sha256 = "{item["sha256"]}"  {state}', markup=False)
    ctx.exit(0 if all(item["ok"] for item in found) else 1)


def _parts(profile: Profile, models_dir: Path) -> list[tuple[str, Path, str | None]]:
    parts = [("weights", located_weights(profile, models_dir), profile.weights.sha256)]
    if profile.adapter is not None:
        parts.append(("adapter", profile.adapter.file, profile.adapter.sha256))
    return parts


def _sha256(path: Path) -> str:
    return file_sha256(path) if path.is_file() else folder_sha256(path)
