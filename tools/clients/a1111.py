"""Runs exported scripts in AUTOMATIC1111's web UI's own schedule code: ``python tools/clients/a1111.py --checkout DIR``.

DIR is a checkout of https://github.com/AUTOMATIC1111/stable-diffusion-webui, and ``repositories/k-diffusion`` in it one of
k-diffusion. The web UI itself is not started: its ``modules/sd_schedulers.py`` is imported, the exported script
(``--to a1111``) adds itself there, and its levels run through k-diffusion's wrapper and samplers, as the web UI runs them with
``enable_quantization`` off, its default, and on. Two plans have to stand in the menu. Written to
``benchmarks/results/clients_a1111.json``.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import types

import client
import torch
import web_ui

from sigmatune.interop.exports import to_a1111, to_k_diffusion
from sigmatune.plan import Plan


def main() -> None:
    """Runs all of it."""
    needs = "clone https://github.com/crowsonkb/k-diffusion to DIR/repositories/k-diffusion, install torchdiffeq and torchsde"
    file = "repositories/k-diffusion/k_diffusion/sampling.py"
    given = client.checkout("the web UI", "https://github.com/AUTOMATIC1111/stable-diffusion-webui", needs, file)
    sys.path.insert(0, str(given.checkout / "repositories" / "k-diffusion"))
    sys.modules.pop("k_diffusion", None)
    web_ui.package(given.checkout / "repositories" / "k-diffusion" / "k_diffusion", "utils", "sampling", "external")
    modules = types.ModuleType("modules")
    modules.__path__ = [str(given.checkout / "modules")]
    modules.shared = types.ModuleType("modules.shared")  # its options, which need the whole program
    sys.modules.update({"modules": modules, "modules.shared": modules.shared})
    schedulers = importlib.import_module("modules.sd_schedulers")
    modules.sd_schedulers = schedulers
    import k_diffusion

    def run(plan: Plan, timesteps: str, quantize: bool) -> tuple[web_ui.Net, list[float], torch.Tensor]:
        net, levels = web_ui.Net(), list[float]()
        inner = k_diffusion.external.CompVisDenoiser(net, quantize=quantize)

        def model(x: torch.Tensor, sigma: torch.Tensor, **kwargs: object) -> torch.Tensor:
            levels.append(float(sigma[0]))
            return inner(x, sigma, **kwargs)

        entry = web_ui.exported(plan, timesteps, schedulers)
        ends = {"sigma_min": inner.sigmas[0].item(), "sigma_max": inner.sigmas[-1].item()}
        extra = {"inner_model": inner} if entry.need_inner_model else {}
        sigmas = schedulers.schedulers_map[entry.label].function(n=plan.steps, **ends, **extra, device="cpu")
        options = {"noise_sampler": web_ui.noises(plan)} if plan.solver in to_k_diffusion.SAMPLERS.eta else {}
        function = getattr(k_diffusion.sampling, web_ui.NAMES[plan.solver])
        return net, levels, function(model, web_ui.start() * sigmas[0], sigmas, disable=True, **options)

    solvers = to_a1111.SAMPLERS.names
    rows = [*web_ui.rows("script, whole timesteps", "whole", lambda plan, t: run(plan, t, quantize=False), solvers)]
    rows += web_ui.rows("script, exact timesteps", "exact", lambda plan, t: run(plan, t, quantize=False), solvers)
    rows += web_ui.rows(
        "script, whole timesteps, quantization on", "whole", lambda plan, t: run(plan, t, quantize=True), solvers
    )
    names = [entry.name for entry in schedulers.schedulers if entry.name.startswith("sigmatune")]
    kept = {"equal": len(names) == len(set(names)) > 1}
    rows.append(client.row({"way": "several plans in the menu", "model": "", "solver": ""}, lambda: kept))
    tag = subprocess.run(
        ["git", "-C", given.checkout, "describe", "--tags"], capture_output=True, text=True, check=False
    )
    stated = re.search(r"## (\S+)", (given.checkout / "CHANGELOG.md").read_text())
    version = tag.stdout.strip() or (stated[1] if stated else "unknown")
    client.save("a1111", given, {"name": "AUTOMATIC1111 web UI", "version": version}, rows)


if __name__ == "__main__":
    main()
