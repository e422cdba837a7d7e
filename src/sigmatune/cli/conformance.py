"""``sigmatune conformance``: tests whether a program runs plans as tuned."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import typer

from sigmatune.cli.common import may_write, progress_bar
from sigmatune.cli.shared_options import Force, JsonOfVerdicts
from sigmatune.support.errors import SigmaTuneError


def conformance(
    runner: str = typer.Argument(
        help="core, diffusers, k-sampler, k-diffusion, comfyui (the pack), comfyui-list; module:function; or a command in "
        "quotes."
    ),
    vectors: Path | None = typer.Option(None, help="File of cases; the published ones by default."),
    write: Path | None = typer.Option(
        None, help="Write the published cases into this folder instead of running anything."
    ),
    as_json: JsonOfVerdicts = False,
    force: Force = False,
) -> None:
    r"""Run the conformance suite against a program: 0 if nothing fails, 1 if something does.

    A command reads one case per run as a line of JSON and writes a line of JSON, {"calls": \[\[t, sigma], ...], "end":
    \[...]}, or {"refused": "the reason"}. conformance/README.md explains the cases.
    """
    from sigmatune.interop import conformance as suite
    from sigmatune.interop.runners import runner_of

    if write is not None:
        if not write.is_dir():
            raise SigmaTuneError(f"there is no folder {write}; make it first.")
        may_write((write / suite.FILE, "conformance"), inputs=[vectors], force=force)
        print(f"written to {suite.write(write)}")
        return
    chosen = runner_of(runner)
    cases = suite.cases() if vectors is None else suite.read(vectors)
    verdicts = []
    with progress_bar("conformance", quiet=as_json) as report:
        for done, case in enumerate(cases, start=1):
            verdicts += suite.check(chosen, [case])
            report("cases", done, len(cases))
    failed = [v for v in verdicts if not v.passed and not v.refused]
    refused = [v for v in verdicts if v.refused]
    if as_json:
        print(json.dumps([vars(v) for v in verdicts]))
    else:
        for verdict in failed:
            print(f"failed   {verdict.name}: {verdict.reason}")
        for reason in dict.fromkeys(v.reason for v in refused):
            names = [v.name for v in refused if v.reason == reason]
            print(f"refused  {len(names)} cases ({names[0]}{', ...' if len(names) > 1 else ''}): {reason}")
        passed = len(verdicts) - len(failed) - len(refused)
        print(f"{passed} passed, {len(failed)} failed, {len(refused)} refused, of {len(verdicts)}")
    if failed:
        sys.exit(1)
