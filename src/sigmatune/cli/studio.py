"""``sigmatune studio``: a local page on which a schedule can be seen, moved and kept."""

from __future__ import annotations

import os
from pathlib import Path

import typer

from sigmatune.cli.shared_options import Device
from sigmatune.support.errors import SigmaTuneError


def studio(
    model: str = typer.Argument("emoji", help="Bundled name, diffusers folder, run folder of a training, or hub id."),
    solver: str = typer.Option("dpmpp2m", help="Solver with which the page opens."),
    calls: int = typer.Option(6, help="Network calls per image with which the page opens."),
    family: str = typer.Option("karras", help="Schedule family with which the page opens, such as karras:rho=5."),
    port: int = typer.Option(7860, help="Port; 0 for a free one."),
    host: str = typer.Option("127.0.0.1", help="Address to listen on; any but this machine's own needs --token."),
    token: str = typer.Option("", help="Secret that a browser has to send once, as ?token=..."),
    device: Device = "auto",
) -> None:
    """Open a local web page: see what noise levels do, move them, tune, compare, keep the plan.

    Nothing is loaded from elsewhere. Files are read from this folder, the cache and uploads only.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    from sigmatune.studio.page_state import PageState
    from sigmatune.studio.server import Listening, serve

    if not 0 <= port < 2**16:
        raise SigmaTuneError(f"--port must be a whole number from 0 to 65535, not {port}.")

    def opened(address: str) -> None:
        print(f"the studio answers at {address}  (Ctrl-C ends it)", flush=True)

    first = PageState(model, solver, calls, family)
    serve(first, Listening(port, host, token), start=Path.cwd(), device=device, opened=opened)
