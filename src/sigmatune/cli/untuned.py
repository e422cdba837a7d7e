"""Plans that are compiled on the spot: ``sigmatune sample MODEL --solver reduced-oba --calls 50 --lambda-s auto``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.named_numbers import named_numbers

if TYPE_CHECKING:
    from sigmatune.core.denoiser import Denoiser
    from sigmatune.core.schedule import Schedule
    from sigmatune.plan import Plan

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

    def check(self) -> None:
        """Refuses what is wrong for any model.

        Raises:
            SigmaTuneError: for unknown names and options, calls that do not pay for one step, or data that cannot be opened
                or are not needed.
        """
        from sigmatune import schedules, solvers
        from sigmatune.cli.before import check_calls, check_spectrum

        check_calls(self.solver, [self.calls])
        chosen = solvers.solver(self.solver)
        chosen.options(self._settings(chosen.defaults))
        if self.grid and self.grid != AUTO:
            family, given = schedules.named(self.grid)
            schedules.check("phase-time" if family in POWERS else family, given)
        if AUTO not in (self.grid, self.lambda_s):
            if self.data:
                raise SigmaTuneError(
                    "--data is for --grid auto and --lambda-s auto, which go by a spectrum; leave it out."
                )
        else:
            check_spectrum(self.source, self.data, self.values)

    def plan(self, denoiser: Denoiser) -> Plan:
        """Makes the plan.

        Raises:
            SigmaTuneError: for unknown or contradictory options, or calls that do not suffice for one step.
        """
        from sigmatune import solvers
        from sigmatune.plan import compile_plan
        from sigmatune.plan.calls import largest

        chosen = solvers.solver(self.solver)
        settings = self._settings(chosen.defaults)
        if denoiser.solver_options is not None:
            settings = {**denoiser.solver_options, **settings}

        def build(steps: int) -> Plan:
            if AUTO in (self.grid, self.lambda_s):
                return self._by_spectrum(denoiser, steps, settings)
            return compile_plan(
                self._schedule(denoiser, steps, augmented=chosen.augmented), chosen.name, denoiser, **settings
            )

        return largest(build, chosen, self.calls, denoiser)

    def _settings(self, known: dict[str, Any]) -> dict[str, Any]:
        settings: dict[str, Any] = {}
        for text in self.given:
            name, equals, value = text.partition("=")
            settings |= {name: value} if equals and isinstance(known.get(name), str) else named_numbers([text])
        if self.lambda_s and "lambda_s" not in known:
            raise SigmaTuneError(f"{self.solver} has no lambda_s; it is for splittings with O, such as reduced-oba.")
        if self.lambda_s and self.lambda_s != AUTO:
            settings |= named_numbers([f"lambda_s={self.lambda_s}"])
        return settings

    def _schedule(self, denoiser: Denoiser, steps: int, *, augmented: bool) -> Schedule:
        from sigmatune import schedules, solvers

        default = denoiser.default_schedule or ("uniform-trailing", {})
        grid = self.grid or ("quadratic" if augmented else "")
        family, given = schedules.named(grid) if grid else (default[0], dict(default[1]))
        if family in POWERS:
            family, given = "phase-time", {"power": POWERS[family], **given}
        if augmented and "sigma_max" not in given:
            highest = solvers.solver(self.solver).highest(**self._settings(solvers.solver(self.solver).defaults))
            given = {**given, "sigma_max": min(denoiser.path.sigma_max, highest)}
        return schedules.build(family, steps, denoiser.path, **given)

    def _by_spectrum(self, denoiser: Denoiser, steps: int, settings: dict[str, Any]) -> Plan:
        from sigmatune import solvers
        from sigmatune.plan import compile_plan
        from sigmatune.tuning.own_spectrum import own_modes
        from sigmatune.tuning.spectral_search import choose

        name = solvers.solver(self.solver).name
        proposal = choose(name, steps, own_modes(self.source, self.data, values=self.values), denoiser.path, **settings)
        kept = proposal.schedule
        if self.grid != AUTO:  # only the noise was asked for
            kept = self._schedule(denoiser, steps, augmented=solvers.solver(name).augmented)
        return compile_plan(kept, name, denoiser, **proposal.options)
