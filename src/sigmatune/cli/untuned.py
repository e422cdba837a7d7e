"""Plans that are made on the spot: ``sigmatune sample MODEL --solver reduced-oba --calls 50 --lambda-s auto``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sigmatune.cli.common import options
from sigmatune.errors import SigmaTuneError

if TYPE_CHECKING:
    from sigmatune.denoiser import Denoiser
    from sigmatune.plan import Plan
    from sigmatune.schedule import Schedule

AUTO = "auto"
POWERS = {"uniform": 1.0, "quadratic": 2.0}
"""The grids of phase space by the names that its papers give them."""


@dataclass(frozen=True)
class Untuned:
    """The command's options about a plan that is in no file; empty means not given.

    Attributes:
        source: What the model is loaded from.
        solver: The solver.
        calls: Network evaluations per image that the plan may take; guidance counts.
        grid: uniform or quadratic in phase-space time, auto, or a family with options such as karras:rho=7.
        lambda_s: A number, or auto; for splittings of phase space.
        given: Further options of the solver, name=value.
        data: Images whose spectrum auto goes by, instead of the model's own.
        values: What black and white are in them.
    """

    source: str
    solver: str
    calls: int
    grid: str
    lambda_s: str
    given: list[str]
    data: str
    values: str = "auto"

    def plan(self, denoiser: Denoiser) -> Plan:
        """Makes the plan.

        Raises:
            SigmaTuneError: for options that are none or do not go together, or calls that pay for no step.
        """
        from sigmatune.calls import largest
        from sigmatune.solvers import SOLVERS, compile_plan

        chosen = SOLVERS[self.solver]
        own = self._own(chosen.defaults)
        if denoiser.solver_options is not None:
            own = {**denoiser.solver_options, **own}

        def build(steps: int) -> Plan:
            if AUTO in (self.grid, self.lambda_s):
                return self._by_spectrum(denoiser, steps, own)
            return compile_plan(
                self._schedule(denoiser, steps, augmented=chosen.augmented), chosen.name, denoiser, **own
            )

        return largest(build, chosen, self.calls, denoiser)

    def _own(self, known: dict[str, Any]) -> dict[str, Any]:
        own: dict[str, Any] = {}
        for text in self.given:
            name, equals, value = text.partition("=")
            own |= {name: value} if equals and isinstance(known.get(name), str) else options([text])
        if self.lambda_s and "lambda_s" not in known:
            raise SigmaTuneError(f"{self.solver} has no lambda_s; it is for splittings with O, such as reduced-oba.")
        if self.lambda_s and self.lambda_s != AUTO:
            own |= options([f"lambda_s={self.lambda_s}"])
        return own

    def _schedule(self, denoiser: Denoiser, steps: int, *, augmented: bool) -> Schedule:
        from sigmatune import schedules
        from sigmatune.cli.evaluate import family_of
        from sigmatune.solvers import SOLVERS

        own = denoiser.default_schedule or ("uniform-trailing", {})
        grid = self.grid or ("quadratic" if augmented else "")
        family, given = family_of(grid) if grid else (own[0], dict(own[1]))
        if family in POWERS:
            family, given = "phase-time", {"power": POWERS[family], **given}
        if augmented and "sigma_max" not in given:
            highest = SOLVERS[self.solver].highest(**self._own(SOLVERS[self.solver].defaults))
            given = {**given, "sigma_max": min(denoiser.path.sigma_max, highest)}
        return schedules.build(family, steps, denoiser.path, **given)

    def _by_spectrum(self, denoiser: Denoiser, steps: int, own: dict[str, Any]) -> Plan:
        from sigmatune.solvers import SOLVERS, compile_plan
        from sigmatune.tuning.by_spectrum import choose
        from sigmatune.tuning.own_spectrum import own_modes

        name = SOLVERS[self.solver].name
        found = choose(name, steps, own_modes(self.source, self.data, values=self.values), denoiser.path, **own)
        kept = found.schedule
        if self.grid != AUTO:  # only the noise was asked for
            kept = self._schedule(denoiser, steps, augmented=SOLVERS[name].augmented)
        return compile_plan(kept, name, denoiser, **found.options)
