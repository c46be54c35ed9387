"""`clinic policy`: load gate, golden cases, activation, explanations, screening."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TextIO, cast

import click

from clinic.cli.common import (
    Bars,
    err,
    home_option,
    home_path,
    json_option,
    load_config,
    open_here,
    out,
    print_json,
    read_stream,
)
from clinic.config import PolicyConfig
from clinic.documents.answering import LOOKUP
from clinic.documents.template import document_ids, load_document_template
from clinic.domain import OPERATOR
from clinic.errors import InputError, PolicyError
from clinic.generation.profiles import load_profile
from clinic.generation.prompts import load_template, template_ids
from clinic.past_decisions import past_decision
from clinic.policy import golden, mutation
from clinic.policy.activation import Activation
from clinic.policy.counterfactual import Counterfactual, counterfactual
from clinic.policy.engine import Explanation
from clinic.policy.engine import explain as explain_decision
from clinic.policy.load import check as load_gate
from clinic.policy.recorded import FACTS_WORDS
from clinic.policy.replay import Replay
from clinic.policy.request import PolicyRequest
from clinic.policy.screen import CODE, HINT, Unreadable, screen_lines
from clinic.services import PolicySource


def _directory(named: Path | None) -> Path:
    if named is not None:
        return named
    if (home_path() / "clinic.toml").exists():
        return load_config().policy.directory
    return PolicyConfig().directory


directory_option = click.option(
    "--policies", "directory", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of the set."
)
profile_option = click.option(
    "--profile", help="Profile of the set, `strict` or `teaching`.  Default: that of `clinic.toml`, or `strict`."
)


def _profile(named: str | None) -> str:
    if named is not None:
        return named
    if (home_path() / "clinic.toml").exists():
        return load_config().policy.profile
    return PolicyConfig().profile


@click.group()
def policy() -> None:
    """The prompt policies: check, test, activate, roll back, explain, screen."""


@policy.command()
@directory_option
@profile_option
@home_option
@json_option
def check(*, directory: Path | None, profile: str | None, as_json: bool) -> None:
    """Pass the policy set through the load gate: syntax, schema, ids, messages, obligations."""
    found = load_gate(_directory(directory), _profile(profile))
    if as_json:
        print_json({"ok": True, "policy_set": found.sha256, "policies": sorted(found.policies)})
        return
    out.print(f"policy set sha256 {found.sha256}: {len(found.policies)} policies, ok", markup=False)


@policy.command()
@click.option("--mutate", is_flag=True, help="Break every policy in turn, and demand that a case fails each time.")
@directory_option
@profile_option
@home_option
@json_option
@click.pass_context
def test(ctx: click.Context, *, mutate: bool, directory: Path | None, profile: str | None, as_json: bool) -> None:
    """Run the golden cases.  Exit 1 if one fails, a policy is untested, or a broken policy goes unnoticed."""
    if mutate:
        ctx.exit(_mutate(_directory(directory), _profile(profile), as_json=as_json))
    report = golden.run(_directory(directory), _profile(profile))
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


def _mutate(directory: Path, profile: str, *, as_json: bool) -> int:
    with Bars("breaking policies", console=err) as bar:
        report = mutation.run(directory, profile, progress=bar.report)
    survivors = [{"policy": mutant.policy, "change": mutant.change} for mutant in report.survivors]
    if as_json:
        print_json({"ok": report.passed, "mutants": report.mutants, "score": report.score, "survivors": survivors})
    else:
        for survivor in survivors:
            out.print(f"UNNOTICED `{survivor['policy']}`, {survivor['change']}", markup=False)
        caught = report.mutants - len(survivors)
        out.print(f"{caught} of {report.mutants} broken sets noticed ({report.score:.1%})", markup=False)
    return 0 if report.passed else 1


@policy.command()
@directory_option
@profile_option
@home_option
@json_option
def activate(*, directory: Path | None, profile: str | None, as_json: bool) -> None:
    """Let the set decide from now on: checked, tested, copied, signed, recorded.  Nothing has to be restarted."""
    config, _, records = open_here()
    store = PolicySource(config, records)
    done = store.activate(directory or config.policy.directory, profile or config.policy.profile, actor=OPERATOR)
    _print_activation(done, as_json=as_json)


@policy.command()
@click.option("--to", "version", type=click.IntRange(min=1), help="Version to go back to.  Default: the set before.")
@home_option
@json_option
def rollback(*, version: int | None, as_json: bool) -> None:
    """Let an earlier set decide again.  That is a new version, with an audit entry of its own."""
    config, _, records = open_here()
    _print_activation(PolicySource(config, records).rollback(version, actor=OPERATOR), as_json=as_json)


@policy.command("list")
@home_option
@json_option
def list_sets(*, as_json: bool) -> None:
    """List the policy sets that were activated, the active one last, and say whether it is as it was signed."""
    config, _, records = open_here()
    store = PolicySource(config, records)
    history = store.history()
    intact = {past.event.version: _is_intact(store, past) for past in history}
    if as_json:
        print_json([_document(past) | {"intact": intact[past.event.version]} for past in history])
        return
    for past in history:
        state = "" if intact[past.event.version] else "  CHANGED ON DISK"
        active = "  active" if past is history[-1] else ""
        out.print(
            f"version {past.event.version}  {past.event.profile}  sha256 {past.event.policy_set[:16]}…  "
            f"{past.at}  {past.event.cause}{active}{state}",
            markup=False,
        )


@policy.command()
@home_option
@json_option
def pins(*, as_json: bool) -> None:
    """Print the digests of the configured model and of the templates, as `pins.cedar` lists them."""
    config = load_config()
    model = load_profile(config.generation.profile, config.profiles_dir).identity
    templates = {name: load_template(name).sha256 for name in template_ids()}
    documents = {name: load_document_template(name).sha256 for name in document_ids()} | {LOOKUP.id: LOOKUP.sha256}
    if as_json:
        print_json({"model": model.id, "model_sha256": model.sha256, "templates": templates, "documents": documents})
        return
    out.print(f'    "{model.sha256}"  // {model.id}', markup=False)
    for name, digest in {**templates, **documents}.items():
        out.print(f'    {{ id: "{name}", sha256: "{digest}" }},', markup=False)


def _is_intact(store: PolicySource, past: Activation) -> bool:
    try:
        store.load(past)
    except PolicyError:
        return False
    return True


def _document(done: Activation) -> dict[str, object]:
    event = done.event
    return {
        "version": event.version,
        "profile": event.profile,
        "policy_set": event.policy_set,
        "policies": event.policies,
        "previous": event.previous,
        "files": event.files,
        "cause": event.cause,
        "at": done.at,
        "audit_seq": done.seq,
    }


def _print_activation(done: Activation, *, as_json: bool) -> None:
    if as_json:
        print_json(_document(done))
        return
    event = done.event
    out.print(
        f"version {event.version} ({event.profile}) decides from now on: {event.policies} policies, "
        f"sha256 {event.policy_set[:16]}…, audit entry {done.seq}",
        markup=False,
    )


@policy.command()
@click.argument("request")
@directory_option
@profile_option
@home_option
@json_option
def explain(request: str, *, directory: Path | None, profile: str | None, as_json: bool) -> None:
    """Say which policies decide REQUEST, why, and what would change it.  Nothing is recorded or generated.

    REQUEST is a JSON file (`-`: standard input), or the number of an audit entry: then the decision that it records is
    explained in the words of the policies that made it, and decided again from its recorded facts, by that set and by
    today's.
    """
    if request.isascii() and request.isdigit() and not Path(request).exists():
        _explain_recorded(int(request), as_json=as_json)
        return
    policy_set = load_gate(_directory(directory), _profile(profile))
    file = click.File("r", encoding="utf-8").convert(request, None, click.get_current_context())
    asked = PolicyRequest.from_json(read_stream(cast("TextIO", file)))
    explanation, changes = explain_decision(policy_set, asked), counterfactual(policy_set, asked)
    if as_json:
        print_json(explanation.as_json() | {"counterfactual": changes.as_json()})
        return
    _print_explanation(explanation)
    _print_changes(changes)


def _explain_recorded(seq: int, *, as_json: bool) -> None:
    config, _, records = open_here()
    decision = past_decision(records, PolicySource(config, records), seq)
    if as_json:
        print_json(decision.as_json())
        return
    out.print(f"audit entry {seq}, {decision.at}: {decision.action} for {decision.purpose}", markup=False)
    out.print(f"  by {decision.actor} ({decision.role}), encounter {decision.encounter}", markup=False)
    out.print(f"  template {decision.template}, model {decision.model}", markup=False)
    _print_explanation(decision.explanation)
    if decision.redacted:
        out.print(f"  taken out of what the model saw: {', '.join(decision.redacted)}", markup=False)
    if not decision.set_known:
        out.print("  the policy set that decided is not here any more: its messages cannot be given", markup=False)
    out.print(FACTS_WORDS[decision.facts], markup=False)
    if decision.replay is not None:
        _print_replay(decision.replay)


def _print_replay(replay: Replay) -> None:
    for name, value in replay.facts.items():
        out.print(f"  {name} = {_shown(value)}", markup=False)
    if replay.then is not None:
        agrees = "the same" if replay.agrees else "NOT the same"
        out.print(f"decided again by the set of that time ({agrees} as recorded):", markup=False)
        _print_explanation(replay.then)
    if replay.now is not None:
        out.print("decided by the set of today:", markup=False)
        _print_explanation(replay.now)
    if replay.changes is not None:
        _print_changes(replay.changes)


def _print_explanation(explanation: Explanation) -> None:
    out.print(f"{explanation.outcome}", markup=False, style="bold")
    for fired in explanation.policies:
        out.print(f"  {fired.effect} {fired.id} ({fired.file}): {fired.message}", markup=False)
    for reason in explanation.reasons:
        out.print(f"  reason {reason.code}: {reason.message}", markup=False)
    if explanation.obligations:
        out.print(f"  obligations: {', '.join(explanation.obligations)}", markup=False)


def _print_changes(changes: Counterfactual) -> None:
    out.print("what would change it:", markup=False)
    for name, found in changes.changes.items():
        text = ", or ".join(f"{change.fact} {_shown(change.now)} -> {_shown(change.then)}" for change in found)
        out.print(f"  {name}: {text or 'no change of one fact'}", markup=False)
    if changes.denied and not changes.enough:
        out.print("  the first change of each, made together, would not be enough", markup=False)


def _shown(value: object) -> str:
    return json.dumps(value)


@policy.command()
@click.argument("lines", type=click.File("r", encoding="utf-8", errors="surrogateescape"), default="-")
@json_option
def screen(lines: TextIO, *, as_json: bool) -> None:
    """Score texts for injection and personal data: JSON lines `{"id","text"}` in, one JSON line each out.

    A line that cannot be read is named on stderr, by its number; the others are answered all the same.  Exit 2 then.
    """
    del as_json  # it always speaks JSON lines
    unreadable = 0
    for answer in screen_lines(lines):
        if isinstance(answer, Unreadable):
            unreadable += 1
            click.echo(answer.report(), err=True)
        else:
            click.echo(answer)
    if unreadable:
        raise InputError(f"lines that could not be screened: {unreadable}", code=CODE, hint=HINT)
