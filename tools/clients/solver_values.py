"""Records what the samplers of ComfyUI compute, for the tests: ``python tools/clients/solver_values.py --checkout DIR``.

DIR is a checkout of ComfyUI (git clone https://github.com/Comfy-Org/ComfyUI). Its own sampling code runs here, in float64, on a
toy denoiser in closed form, with given noises; nothing of it is kept but numbers: for every case the levels, the start, the
noise of each network call, and the end. Packages that the sampling code imports but does not need here may be missing.

Writes ``tests/clients/solver_values.json``, with the checkout's commit.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.abc
import importlib.machinery
import json
import subprocess
import sys
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sigmatune import schedules
from sigmatune.noise import Flow, NoisePath, vp
from sigmatune.solvers import SOLVERS

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "tests" / "clients" / "solver_values.json"
VALUES, MEAN, VARIANCE = 5, 0.6, 0.1
"""Numbers in a sample; the data of the toy denoiser are two Gaussians at +- MEAN."""
SD = vp("scaled_linear", beta_start=0.00085, beta_end=0.012)
PATHS: dict[str, NoisePath] = {"vp": SD, "flow": Flow(3.0)}

CASES: list[tuple[str, dict[str, Any], str, dict[str, Any], str]] = [
    ("res-multistep", {}, "sample_res_multistep", {}, "vp"),
    ("res-multistep-ancestral", {}, "sample_res_multistep_ancestral", {}, "vp"),
    ("res-multistep-ancestral", {"eta": 0.4}, "sample_res_multistep_ancestral", {"eta": 0.4}, "vp"),
    ("er-sde", {"points": 200}, "sample_er_sde", {}, "vp"),
    ("er-sde", {"points": 200}, "sample_er_sde", {}, "flow"),
    ("er-sde", {"points": 200, "eta": 0.0}, "sample_er_sde", {"noise_scaler": "ode"}, "vp"),
    ("dpmpp-sde", {}, "sample_dpmpp_sde", {}, "vp"),
    ("dpmpp-sde", {"eta": 0.6, "r": 0.3}, "sample_dpmpp_sde", {"eta": 0.6, "r": 0.3}, "vp"),
    ("dpmpp2s-ancestral", {}, "sample_dpmpp_2s_ancestral", {}, "vp"),
    ("dpmpp2s-ancestral", {"eta": 0.5}, "sample_dpmpp_2s_ancestral", {"eta": 0.5}, "vp"),
    ("sde-dpmpp2m", {}, "sample_dpmpp_2m_sde", {}, "vp"),
    ("sde-dpmpp2m", {"eta": 0.5}, "sample_dpmpp_2m_sde", {"eta": 0.5}, "flow"),
    ("sde-dpmpp3m", {}, "sample_dpmpp_3m_sde", {}, "vp"),
    ("sde-dpmpp3m", {"eta": 0.5}, "sample_dpmpp_3m_sde", {"eta": 0.5}, "flow"),
    ("seeds2", {}, "sample_seeds_2", {}, "vp"),
    ("seeds2", {"eta": 0.3}, "sample_seeds_2", {"eta": 0.3}, "flow"),
    ("seeds2", {"eta": 0.0}, "sample_seeds_2", {"eta": 0.0}, "vp"),
    ("seeds3", {}, "sample_seeds_3", {}, "vp"),
    ("seeds3", {"eta": 0.3}, "sample_seeds_3", {"eta": 0.3}, "flow"),
    ("sa-solver", {}, "sample_sa_solver", {"tau_func": 1.0}, "vp"),
    ("sa-solver", {"tau": 0.0}, "sample_sa_solver", {"tau_func": 0.0}, "flow"),
    (
        "sa-solver",
        {"noise_from": float(SD.sigma(799.2)), "noise_to": float(SD.sigma(199.8))},
        "sample_sa_solver",
        {},
        "vp",
    ),
    ("gradient-estimation", {}, "sample_gradient_estimation", {}, "vp"),
    ("lcm", {}, "sample_lcm", {}, "vp"),
    ("lcm", {}, "sample_lcm", {}, "flow"),
    ("ancestral", {}, "sample_euler_ancestral", {}, "vp"),
    ("ancestral", {}, "sample_ddpm", {}, "vp"),
    ("euler", {}, "sample_euler", {}, "flow"),
    ("heun", {}, "sample_heun", {}, "vp"),
    ("dpmpp2m", {}, "sample_dpmpp_2m", {}, "vp"),
    ("ipndm4", {}, "sample_ipndm", {}, "vp"),
    ("unipc-bh1", {}, "sample_unipc", {}, "vp"),
    ("unipc-bh2", {}, "sample_unipc_bh2", {}, "vp"),
]
"""Our solver and its options, ComfyUI's function and its arguments, and the model's path."""


def denoiser(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """The exact denoiser of x = x0 + sigma eps, in VE scale; the mean of the data at sigma = inf."""
    far = VARIANCE + sigma**2
    pull = MEAN * torch.tanh(MEAN * x / far)
    return (VARIANCE * x + sigma**2 * pull) / far


class Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Empty modules in the place of packages that are not installed; what is called of them fails."""

    def find_spec(self, name: str, path: object, target: object = None) -> importlib.machinery.ModuleSpec | None:
        top = name.partition(".")[0]
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if top in self.absent else None

    def __init__(self, names: Sequence[str]) -> None:
        self.absent = set(names)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        module = types.ModuleType(spec.name)
        module.__getattr__ = _empty  # type: ignore[method-assign]
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """Leaves the module empty."""


def _empty(name: str) -> type:
    if name.startswith("__"):
        raise AttributeError(name)
    return type(name, (), {})


def imported(name: str, checkout: Path) -> Any:
    """A module of the checkout; packages that it needs and that are not there become empty ones."""
    sys.path.insert(0, str(checkout))
    absent = Absent([])
    sys.meta_path.append(absent)
    for _ in range(40):
        with contextlib.suppress(ModuleNotFoundError):
            return importlib.import_module(name)
        missing = _missing(name)
        if (checkout / missing).exists():
            raise SystemExit(f"{checkout} lacks {missing}; is it a whole checkout?")
        absent.absent.add(missing)
    raise SystemExit(f"{name} of {checkout} cannot be imported.")


def _missing(name: str) -> str:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        return str(error.name).partition(".")[0]
    return ""


def commit_of(checkout: Path) -> str:
    """The checkout's commit: that of git, or of a file COMMIT in an unpacked archive."""
    if (checkout / "COMMIT").exists():
        return (checkout / "COMMIT").read_text().strip()
    found = subprocess.run(["git", "-C", checkout, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    return found.stdout.strip()


def sampling_of(kind: str, classes: Any) -> Any:
    """ComfyUI's ``model_sampling`` of Stable Diffusion ("vp") or of a flow model of shift 3."""
    base = (classes.ModelSamplingDiscreteFlow, classes.CONST) if kind == "flow" else ()
    made = type("Sampling", base or (classes.ModelSamplingDiscrete, classes.EPS), {})()
    if kind == "flow":
        made.set_parameters(shift=3.0)
    return made


class Model:
    """The toy denoiser as ComfyUI's samplers call a model, with ComfyUI's own ``model_sampling``."""

    def __init__(self, kind: str, sampling: Any) -> None:
        self.flow, self.model_sampling = kind == "flow", sampling_of(kind, sampling)
        self.inner_model = self.model_patcher = self

    def get_model_object(self, name: str) -> Any:
        """Part of the interface of ComfyUI's ModelPatcher."""
        return getattr(self, name)

    def __call__(self, x: torch.Tensor, level: torch.Tensor, **extra: Any) -> torch.Tensor:
        """The denoised image; ``level`` is sigma, or flow time tau, and x is scaled accordingly."""
        level = level.view(-1, *[1] * (x.ndim - 1))
        return denoiser(x / (1 - level), level / (1 - level)) if self.flow else denoiser(x, level)


class Path1d:
    """A noise sampler on given segments: the noise between two levels is that of a Brownian path through them."""

    def __init__(self, nodes: Sequence[float], noise: torch.Tensor) -> None:
        self.nodes, self.noise = list(nodes), noise

    def __call__(self, first: Any, last: Any) -> torch.Tensor:
        """The noise from one level down to another, of variance 1."""
        i, j = (int(np.argmin(np.abs(np.array(self.nodes) - float(level)))) for level in (first, last))
        lengths = -np.diff(self.nodes[i : j + 1])
        weights = np.sqrt(lengths / lengths.sum())
        return sum(float(w) * eps for w, eps in zip(weights, self.noise[i:j], strict=True)).view(1, 1, 1, -1)


def record(case: tuple[Any, ...], comfy: Any, unipc: Any, sampling: Any) -> dict[str, Any]:
    """Runs one case."""
    name, options, function, arguments, kind = case
    path = PATHS[kind]
    levels = schedules.build("karras" if kind == "vp" else "uniform-trailing", 8, path).sigmas
    levels = levels[1:] if kind == "flow" else levels
    ve = levels[:-1] if "unipc" in function else levels  # there a final 0 is replaced by 0.001
    table = SOLVERS[name].build(torch.from_numpy(ve.copy()), **options)
    generator = torch.Generator().manual_seed(len(name) + len(function))
    noise = torch.randn(table.calls, VALUES, generator=generator)
    x = torch.randn(VALUES, generator=generator) * ve[0]
    inside = lambda sigma: sigma / (1 + sigma) if kind == "flow" else sigma  # noqa: E731
    nodes = [*table.q.tolist(), ve[-1]]
    given = dict(arguments)
    if "tau_func" in given:
        given["tau_func"] = lambda sigma, tau=given["tau_func"]: tau
    if given.get("noise_scaler") == "ode":
        given["noise_scaler"] = lambda value: value
    if not table.deterministic or "noise_scaler" in given:
        given["noise_sampler"] = Path1d([inside(node) for node in nodes], noise)
    sigmas = torch.from_numpy(inside(ve).copy())
    start = (x / (1 + ve[0]) if kind == "flow" else x).view(1, 1, 1, -1)
    run = getattr(comfy, function, None) or getattr(unipc, function)
    with quiet():
        end = run(Model(kind, sampling), start.clone(), sigmas, disable=True, extra_args={}, **given)
    return {
        "solver": name, "options": options, "client": function, "path": kind, "sigmas": ve.tolist(),
        "start": x.tolist(), "noise": noise.tolist() if not table.deterministic else [],
        "end": (end / (1 - inside(ve[-1])) if kind == "flow" else end).flatten().tolist(),
    }  # fmt: skip


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps the client's own lines out of ours."""
    with contextlib.redirect_stdout(None), contextlib.redirect_stderr(None):
        yield


def main() -> None:
    """Runs all cases and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", type=Path, required=True, help="a checkout of ComfyUI")
    checkout = parser.parse_args().checkout
    if not (checkout / "comfy" / "k_diffusion").is_dir():
        parser.error(f"{checkout} is no checkout of ComfyUI: git clone https://github.com/Comfy-Org/ComfyUI")
    torch.set_default_dtype(torch.float64)
    imported("comfy.cli_args", checkout).args.cpu = True
    comfy = imported("comfy.k_diffusion.sampling", checkout)
    unipc = imported("comfy.extra_samplers.uni_pc", checkout)
    sampling = imported("comfy.model_sampling", checkout)
    version = imported("comfyui_version", checkout).__version__
    cases = [record(case, comfy, unipc, sampling) for case in CASES]
    document = {
        "client": {"name": "ComfyUI", "version": version, "commit": commit_of(checkout)},
        "data": {"mean": MEAN, "variance": VARIANCE},
        "cases": cases,
    }
    OUT.write_text(json.dumps(document, indent=None, separators=(",", ":")).replace('{"solver"', '\n{"solver"') + "\n")
    print(f"{len(cases)} cases of ComfyUI {version} to {OUT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
