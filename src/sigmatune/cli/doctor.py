"""``sigmatune doctor``: versions, devices, threads, caches, and a self-test."""

from __future__ import annotations

import json

import typer

from sigmatune.cli.shared_options import Device, JsonForText


def doctor(device: Device = "auto", as_json: JsonForText = False) -> None:
    """Check the installation: versions, devices, threads, caches, and a self-test of less than a minute.

    Every line that is not ok says what to do. Exit code 1 if something does not work.
    """
    from sigmatune.workflows.self_test import examine

    checks = []
    for check in examine(device=device):
        checks.append(check)
        if not as_json:
            print(f"{check.state:4}  {check.name}: {check.said}", flush=True)
            if check.cure:
                print(f"      -> {check.cure}")
    bad = [check.name for check in checks if check.state == "bad"]
    if as_json:
        print(json.dumps({"works": not bad, "checks": [check.to_dict() for check in checks]}))
    else:
        print(f"does not work: {', '.join(bad)}." if bad else "SigmaTune works here.")
    if bad:
        raise typer.Exit(1)
