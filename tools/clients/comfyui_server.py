"""A running ComfyUI: started with the pack in a folder of its own, driven through its HTTP interface."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import torch
from client import ROOT

PACK = ROOT / "integrations" / "comfyui"
WAIT = 120.0
"""Seconds to wait for the server, and for one prompt."""


class Refused(Exception):
    """A workflow that the server, or a node in it, refuses; the message is what the user sees."""


class Server:
    """ComfyUI's server on this machine; a context manager that stops it."""

    def __init__(self, checkout: Path, port: int = 8288) -> None:
        self.base, self.port = Path(tempfile.mkdtemp(prefix="comfyui-")), port
        for folder in ("custom_nodes", "models/diffusion_models", "models/sigmatune_plans", "input", "output"):
            (self.base / folder).mkdir(parents=True)
        shutil.copytree(PACK, self.base / "custom_nodes" / "sigmatune")
        shutil.copytree(Path(__file__).parent / "comfyui_recorder", self.base / "custom_nodes" / "recorder")
        asked = [
            sys.executable, "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(port), "--base-directory", self.base,
            "--disable-auto-launch", "--disable-api-nodes", "--database-url", "sqlite:///:memory:",
        ]  # fmt: skip
        with (self.base / "log.txt").open("w", encoding="utf-8") as log:
            self.process = subprocess.Popen(asked, cwd=checkout, stdout=log, stderr=log)

    def __enter__(self) -> Server:
        end = time.monotonic() + WAIT
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            try:
                self.asked("/system_stats")
                return self
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.5)
        self.__exit__()
        raise SystemExit(f"ComfyUI did not start:\n{self.log()[-2000:]}")

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(20)

    def close(self) -> None:
        """Deletes the server's folder."""
        shutil.rmtree(self.base, ignore_errors=True)

    def log(self) -> str:
        """What the server has printed."""
        return (self.base / "log.txt").read_text(encoding="utf-8", errors="replace")

    def asked(self, path: str, body: Any = None) -> Any:
        """The JSON that an address of the server answers."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=data)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    def post(self, workflow: dict[str, Any]) -> dict[str, Any]:
        """Posts a workflow and waits for its end; returns the outputs by node.

        Raises:
            Refused: with the message of the node, if it is refused before or during the run.
        """
        try:
            number = self.asked("/prompt", {"prompt": workflow})["prompt_id"]
        except urllib.error.HTTPError as error:
            said = json.loads(error.read())
            reasons = [e["details"] for node in said.get("node_errors", {}).values() for e in node["errors"]]
            raise Refused("before the run: " + "; ".join(reasons or [str(said)])) from None
        end = time.monotonic() + WAIT
        while time.monotonic() < end:
            entry = self.asked(f"/history/{number}").get(number)
            if entry and entry["status"].get("completed"):
                return dict(entry["outputs"])
            for kind, said in entry["status"]["messages"] if entry else []:
                if kind == "execution_error":
                    raise Refused(f"{said['node_type']}: {said['exception_message'].strip()}")
            time.sleep(0.1)
        raise SystemExit(f"ComfyUI did not answer:\n{self.log()[-2000:]}")

    def latents(self, outputs: dict[str, Any]) -> torch.Tensor:
        """The latents that a workflow saved, (B, C, H, W)."""
        from safetensors.torch import load_file

        saved = next(entry for node in outputs.values() for entry in node.get("latents", []))
        return load_file(self.base / "output" / saved["subfolder"] / saved["filename"])["latent_tensor"]
