"""Runs exported plans with k-diffusion's own samplers: ``python tools/clients/k_diffusion.py --checkout DIR``.

DIR is a checkout of https://github.com/crowsonkb/k-diffusion. A plan is exported (``--to k-diffusion``) and the sampler that
the export names runs its tensor, through k-diffusion's own wrapper of Stable Diffusion (``CompVisDenoiser``), with
``quantize`` off and on; and the plan's own sampler function runs in the same wrapper. Written to
``benchmarks/results/clients_k_diffusion.json``.
"""

from __future__ import annotations

import re
import sys

import client
import torch
import web_ui

from sigmatune.interop import exports
from sigmatune.interop.exports import to_k_diffusion
from sigmatune.interop.k_diffusion import sampler, sigmas_of
from sigmatune.plan import Plan


def main() -> None:
    """Runs all of it."""
    needs = "install torchdiffeq and torchsde"
    given = client.checkout("k-diffusion", "https://github.com/crowsonkb/k-diffusion", needs, "k_diffusion/sampling.py")
    sys.path.insert(0, str(given.checkout))
    sys.modules.pop("k_diffusion", None)
    web_ui.package(given.checkout / "k_diffusion", "utils", "sampling", "external")
    import k_diffusion

    def run(plan: Plan, quantize: bool, own: bool = False) -> tuple[web_ui.Net, list[float], torch.Tensor]:
        net, levels = web_ui.Net(), list[float]()
        inner = k_diffusion.external.CompVisDenoiser(net, quantize=quantize)

        def model(x: torch.Tensor, sigma: torch.Tensor, **kwargs: object) -> torch.Tensor:
            levels.append(float(sigma[0]))
            return inner(x, sigma, **kwargs)

        text = exports.export(plan, "k-diffusion")
        sigmas = eval(re.search(r"sigmas = (.*)", text)[1], {"torch": torch}).float()
        x, options = web_ui.start() * sigmas[0], {}
        if own:
            return net, levels, sampler(plan)(model, x, sigmas_of(plan), extra_args={"seed": 0})
        if plan.solver in to_k_diffusion.SAMPLERS.eta:
            options = {"noise_sampler": web_ui.noises(plan), "eta": plan.solver_options["eta"]}
        function = getattr(k_diffusion.sampling, web_ui.NAMES[plan.solver])
        return net, levels, function(model, x, sigmas, disable=True, **options)

    names = to_k_diffusion.SAMPLERS.names
    rows = [*web_ui.rows("export, quantize off", "exact", lambda plan, _: run(plan, quantize=False), names)]
    rows += web_ui.rows("export, quantize on", "exact", lambda plan, _: run(plan, quantize=True), names)
    rows += web_ui.rows(
        "the plan's sampler function", "exact", lambda plan, _: run(plan, quantize=False, own=True), names
    )
    version = re.search(r"version\s*=\s*(\S+)", (given.checkout / "setup.cfg").read_text())
    client.save("k_diffusion", given, {"name": "k-diffusion", "version": version[1] if version else "unknown"}, rows)


if __name__ == "__main__":
    main()
