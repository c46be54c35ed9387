"""`clinic policy`: load gate, golden cases, explanations, screening."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

import click

from clinic.cli.common import home_option, home_path, json_option, load_config, out, print_json, read_stream
from clinic.config import PolicyConfig
from clinic.policy import golden
from clinic.policy.engine import explain as explain_decision
from clinic.policy.load import check as load_gate
from clinic.policy.request import PolicyRequest
from clinic.policy.screen import screen_lines


def _directory(named: Path | None) -> Path:
    if named is not None:
        return named
    if (home_path() / "clinic.toml").exists():
        return load_config().policy.directory
    return PolicyConfig().directory


directory_option = click.option(
    "--policies", "directory", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of the set."
)


@click.group()
def policy() -> None:
    """The prompt policies: check, test, explain, screen."""


@policy.command()
@directory_option
@home_option
@json_option
def check(*, directory: Path | None, as_json: bool) -> None:
    """Pass the policy set through the load gate: syntax, schema, ids, messages, obligations."""
    found = load_gate(_directory(directory))
    if as_json:
        print_json({"ok": True, "policy_set": found.sha256, "policies": sorted(found.policies)})
        return
    out.print(f"policy set sha256 {found.sha256}: {len(found.policies)} policies, ok", markup=False)


@policy.command()
@directory_option
@home_option
@json_option
@click.pass_context
def test(ctx: click.Context, *, directory: Path | None, as_json: bool) -> None:
    """Run the golden cases.  Exit 1 if one fails, or a policy is untested."""
    report = golden.run(_directory(directory))
    failures = [
        {
            "file": failed.case.file,
            "case": failed.case.name,
            "expected": {"outcome": failed.case.outcome, "policies": list(failed.case.policies)},
            "got": {"outcome": failed.outcome, "policies": list(failed.policies)},
        }
        for failed in report.failures
    ]
    if as_json:
        print_json(
            {
                "ok": report.passed,
                "policy_set": report.policy_set,
                "cases": len(report.results),
                "failures": failures,
                "untested": list(report.untested),
            }
        )
    else:
        for failure in failures:
            out.print(f"FAIL {failure['file']} {failure['case']}", markup=False)
            out.print(f"     expected {failure['expected']}, got {failure['got']}", markup=False)
        for name in report.untested:
            out.print(f"FAIL policy `{name}` fires in no case, or in every one", markup=False)
        verdict = "all as expected" if report.passed else "NOT as expected"
        out.print(f"{len(report.results)} golden cases: {verdict}", markup=False)
    ctx.exit(0 if report.passed else 1)


@policy.command()
@click.argument("request", type=click.File("r", encoding="utf-8"))
@directory_option
@home_option
@json_option
def explain(request: TextIO, *, directory: Path | None, as_json: bool) -> None:
    """Say which policies decide REQUEST (a JSON file), and why.  Nothing is recorded or generated."""
    explanation = explain_decision(load_gate(_directory(directory)), PolicyRequest.from_json(read_stream(request)))
    if as_json:
        print_json(explanation.as_json())
        return
    out.print(f"{explanation.outcome}", markup=False, style="bold")
    for fired in explanation.policies:
        out.print(f"  {fired.effect} {fired.id} ({fired.file}): {fired.message}", markup=False)
    for reason in explanation.reasons:
        out.print(f"  reason {reason.code}: {reason.message}", markup=False)
    if explanation.obligations:
        out.print(f"  obligations: {', '.join(explanation.obligations)}", markup=False)


@policy.command()
@click.argument("lines", type=click.File("r", encoding="utf-8"), default="-")
@json_option
def screen(lines: TextIO, *, as_json: bool) -> None:
    """Score texts for injection and personal data: JSON lines `{"id","text"}` in, one JSON line each out."""
    del as_json  # it always speaks JSON lines
    for answer in screen_lines(lines):
        click.echo(answer)
