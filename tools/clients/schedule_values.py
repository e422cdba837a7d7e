"""Records the levels of other programs' schedules, for the tests: ``python tools/clients/schedule_values.py --checkout DIR``.

DIR is a checkout of ComfyUI; ``--forge DIR`` and ``--res4lyf DIR`` add the curves that only these have. Their own code runs
here; only numbers are kept, with the checkouts' commits, in ``tests/clients/schedule_values.json``.
"""

from __future__ import annotations

import argparse
import ast
import json
import math
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from solver_values import ROOT, commit_of, imported, sampling_of

OUT = ROOT / "tests" / "clients" / "schedule_values.json"
STEPS = (4, 10, 25)
MENU = {
    "comfy-simple": "simple", "comfy-normal": "normal", "comfy-sgm-uniform": "sgm_uniform",
    "comfy-ddim-uniform": "ddim_uniform", "karras": "karras", "log-uniform": "exponential", "kl-optimal": "kl_optimal",
    "beta-open": "beta", "linear-quadratic": "linear_quadratic",
}  # fmt: skip
"""Our family, and ComfyUI's name in its menu."""
EVERY_MODEL = ("simple", "normal", "sgm_uniform", "beta")


def functions(file: Path, names: tuple[str, ...], **given: Any) -> dict[str, Any]:
    """Some functions of a file, without the rest of it and what that imports."""
    kept = [node for node in ast.parse(file.read_text()).body if getattr(node, "name", None) in names]
    space = {"np": np, "torch": torch, "pi": math.pi, "atan": math.atan, **given}
    exec(compile(ast.Module(kept, []), str(file), "exec"), space)
    return space


def main() -> None:
    """Reads all levels and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", type=Path, required=True, help="a checkout of ComfyUI")
    parser.add_argument("--forge", type=Path, help="a checkout of Forge")
    parser.add_argument("--res4lyf", type=Path, help="a checkout of RES4LYF")
    given = parser.parse_args()
    imported("comfy.cli_args", given.checkout).args.cpu = True
    samplers = imported("comfy.samplers", given.checkout)
    classes = imported("comfy.model_sampling", given.checkout)
    curves = imported("comfy.k_diffusion.sampling", given.checkout)
    clients, rows = {"ComfyUI": commit_of(given.checkout)}, []

    def keep(family: str, client: str, path: str, steps: int, sigmas: Any, **options: float) -> None:
        row = {"family": family, "options": options, "client": client, "path": path, "steps": steps}
        rows.append({**row, "sigmas": [float(sigma) for sigma in sigmas]})

    for path in ("vp", "flow"):
        model = sampling_of(path, classes)
        for family, name in MENU.items():
            known = name in EVERY_MODEL or (name == "linear_quadratic") == (path == "flow")
            for steps in (4, 10, 25) if known else ():
                keep(family, "ComfyUI", path, steps, samplers.calculate_sigmas(model, name, steps))
    ends = {"sigma_min": 0.03, "sigma_max": 14.0}
    for steps in STEPS:
        keep(
            "polyexponential",
            "ComfyUI",
            "vp",
            steps,
            curves.get_sigmas_polyexponential(steps, **ends, rho=1.7),
            rho=1.7,
            **ends,
        )
        keep(
            "laplace", "ComfyUI", "vp", steps, [*curves.get_sigmas_laplace(steps, **ends, mu=0.2), 0.0], mu=0.2, **ends
        )
    if given.forge:
        clients["Forge"] = commit_of(given.forge)
        shared = types.SimpleNamespace(sd_model=types.SimpleNamespace())
        names = ("ays_11_sigmas", "ays_32_sigmas")
        space = functions(given.forge / "modules" / "sd_schedulers.py", names, shared=shared)
        for steps in STEPS:
            for points in (11, 32):
                for table in ("sd15", "sdxl"):
                    shared.sd_model.is_sdxl = table == "sdxl"
                    keep(f"ays{points}-{table}", "Forge", "wide", steps, space[f"ays_{points}_sigmas"](steps, 0, 0))
    if given.res4lyf:
        clients["RES4LYF"] = commit_of(given.res4lyf)
        names = ("get_bong_tangent_sigmas", "bong_tangent_scheduler")
        space = functions(given.res4lyf / "sigmas.py", names)
        for steps in STEPS:
            keep("bong-tangent", "RES4LYF", "flow", steps, space["bong_tangent_scheduler"](None, steps))
            beta = samplers.beta_scheduler(sampling_of("vp", classes), steps, alpha=0.5, beta=0.7)
            keep("beta57", "RES4LYF", "vp", steps, beta)
    text = json.dumps({"clients": clients, "rows": rows}, separators=(",", ":"))
    OUT.write_text(text.replace('{"family"', '\n{"family"') + "\n")
    print(f"{len(rows)} schedules to {OUT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
