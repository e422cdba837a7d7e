"""Runs exported scripts in Forge's own schedule, predictor and sampler code: ``python tools/clients/forge.py --checkout DIR``.

DIR is a checkout of https://github.com/lllyasviel/stable-diffusion-webui-forge. The program is not started: the exported script
(``--to a1111``) adds itself to ``modules/sd_schedulers.py``, and its levels run through the predictor
(``backend/modules/k_prediction.py``, which rounds t), its scaling of the start noise, and Forge's ``k_diffusion``. Written to
``benchmarks/results/clients_forge.json``.
"""

from __future__ import annotations

import importlib
import re
import sys
import types

import client
import torch
import web_ui

from sigmatune.interop.exports import to_a1111, to_k_diffusion
from sigmatune.plan import Plan


def main() -> None:
    """Runs all of it."""
    address = "https://github.com/lllyasviel/stable-diffusion-webui-forge"
    needs = "install torchdiffeq, torchsde and diffusers"
    given = client.checkout("Forge", address, needs, "backend/modules/k_prediction.py")
    sys.path.insert(0, str(given.checkout))
    sys.modules.pop("k_diffusion", None)
    modules, backend = types.ModuleType("modules"), types.ModuleType("backend")
    modules.__path__, backend.__path__ = [str(given.checkout / "modules")], [str(given.checkout / "backend")]
    modules.shared = types.ModuleType("modules.shared")  # its options, which need the whole program
    sys.modules.update({"modules": modules, "modules.shared": modules.shared, "backend": backend})
    importlib.import_module("diffusers.pipelines.flux.pipeline_flux")  # of which the predictor takes a function
    web_ui.package(given.checkout / "k_diffusion", "utils", "deis", "sampling", "external")
    modules.sd_schedulers = schedulers = importlib.import_module("modules.sd_schedulers")
    import k_diffusion
    from backend.modules.k_prediction import Prediction

    def run(plan: Plan, timesteps: str, full: bool) -> tuple[web_ui.Net, list[float], torch.Tensor]:
        net, levels = web_ui.Net(), list[float]()
        predictor = Prediction(prediction_type="epsilon", linear_start=0.00085, linear_end=0.012)
        linker = k_diffusion.external.ForgeScheduleLinker(predictor)

        def model(x: torch.Tensor, sigma: torch.Tensor, **_: object) -> torch.Tensor:
            levels.append(float(sigma[0]))
            out = net.apply_model(predictor.calculate_input(sigma, x), predictor.timestep(sigma))
            return predictor.calculate_denoised(sigma, out, x)

        entry = web_ui.exported(plan, timesteps, schedulers)
        ends = {"sigma_min": linker.sigmas[0].item(), "sigma_max": linker.sigmas[-1].item()}
        sigmas = schedulers.schedulers_map[entry.label].function(
            n=plan.steps, **ends, inner_model=linker, device=torch.device("cpu")
        )
        x = predictor.noise_scaling(sigmas[0], web_ui.start(), torch.zeros(web_ui.SHAPE), max_denoise=full)
        options = {"noise_sampler": web_ui.noises(plan)} if plan.solver in to_k_diffusion.SAMPLERS.eta else {}
        function = getattr(k_diffusion.sampling, web_ui.NAMES[plan.solver])
        wrapped = types.SimpleNamespace(inner_model=types.SimpleNamespace(predictor=predictor), predictor=predictor)
        call = type("Model", (), {"__call__": staticmethod(model), "inner_model": wrapped})()
        return net, levels, function(call, x, sigmas, disable=True, **options)

    solvers = to_a1111.SAMPLERS.names
    rows = [*web_ui.rows("script, whole timesteps", "whole", lambda plan, t: run(plan, t, full=False), solvers)]
    rows += web_ui.rows("script, exact timesteps", "exact", lambda plan, t: run(plan, t, full=False), solvers)
    rows += web_ui.rows(
        "script, whole, SGM noise multiplier on", "whole", lambda plan, t: run(plan, t, full=True), solvers
    )
    stated = re.search(r"## (\S+)", (given.checkout / "CHANGELOG.md").read_text())
    client.save("forge", given, {"name": "Forge", "version": stated[1] if stated else "unknown"}, rows)


if __name__ == "__main__":
    main()
