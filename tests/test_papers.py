"""What the papers' pages say is what was measured, and every row is what its label says."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from sigmatune import noise, schedules
from sigmatune.solvers import SOLVERS

pytestmark = pytest.mark.documents

ROOT = Path(__file__).resolve().parent.parent
SPACES = ("block10", "head-pca64")
TRAILING, BOTH_ENDS, EXACT = "uniform trailing", "uniform, both ends", "exact:cifar10-mixture-16"
HAND = ("Beta(.5, .5)", "Beta(.6, .6)", "Beta(.5, .5), end-open", "Beta(.6, .6), end-open")


def results(name: str) -> dict:
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())


def page(name: str) -> str:
    return " ".join((ROOT / "docs" / f"{name}.md").read_text().split())


def benchmark(name: str):
    for folder in ("benchmarks", "tools"):
        if str(ROOT / folder) not in sys.path:
            sys.path.insert(0, str(ROOT / folder))
    return __import__(name)


def distance(cell: dict, space: str) -> float:
    return next(f["value"] for f in cell["figures"] if (f["name"], f["settings"]["space"]) == ("fd", space))


def low_of(cell: dict, space: str) -> float:
    return next(f["low"] for f in cell["figures"] if (f["name"], f["settings"]["space"]) == ("fd", space))


def score(cell: dict) -> float:
    return next(f["value"] for f in cell["figures"] if f["name"] == "is")


def gap(cell: dict, rival: str, space: str, name: str = "fd") -> dict:
    return next(one for one in cell["minus"][rival] if (one["name"], one["space"]) == (name, space))


def better(cell: dict, rival: str, space: str) -> bool:
    return gap(cell, rival, space)["high"] < 0


def beta(model: str = EXACT, solver: str = "euler") -> dict:
    return {
        (c["schedule"], c["steps"]): c
        for c in results("beta_sampling")["cells"]
        if (c["model"], c["solver"]) == (model, solver)
    }


# ------------------------------------------------------------------------------------------------- a row is what it says


def test_every_row_of_beta_sampling_holds_the_levels_of_its_label():
    bench = benchmark("beta_sampling")
    cells = results("beta_sampling")["cells"]
    paths = {cell["model"]: noise.vp("linear") for cell in cells}  # the mixture's and the snapshots'
    for cell in cells:
        label, solver, steps = cell["schedule"], cell["solver"], cell["steps"]
        assert cell["calls"] == steps
        if label in bench.FAMILIES:
            family, options = bench.FAMILIES[label]
        elif label in bench.HALVES:
            family, options = "measured", {"density": bench.halves(label == bench.HALVES[0])}
        elif label in ("Beta fitted", "measured change", "Beta in closed form"):
            family, options = {"measured change": "measured"}.get(label, "beta"), cell["options"]
        else:
            continue
        assert cell["family"] == family
        if cell["model"] in paths:
            built = schedules.build(family, SOLVERS[solver].steps_for(steps), paths[cell["model"]], **options).sigmas
            np.testing.assert_allclose(cell["sigmas"], built, rtol=1e-6, err_msg=f"{label}, {steps}")


def test_beta_beats_uniform_timesteps_at_every_stage_of_training():
    shares, fits = [], [1.0]
    for epochs in (1, 4, 16, 64):
        cells = {label: cell for (label, steps), cell in beta(f"cifar10-epochs-{epochs}").items() if steps == 10}
        for space in SPACES:
            uniform = distance(cells[TRAILING], space)
            shares.append(distance(cells["Beta(.5, .5)"], space) / uniform)
            for label in HAND:
                assert all(better(cells[label], rival, space) for rival in (TRAILING, BOTH_ENDS)), (epochs, label)
                assert all(score(cells[label]) > score(cells[rival]) for rival in (TRAILING, BOTH_ENDS))
                for fit in ("Beta fitted", "Beta in closed form"):
                    assert distance(cells[fit], space) < distance(cells[label], space), (epochs, fit, label)
        assert distance(cells["Beta in closed form"], SPACES[0]) < 1.005 * distance(cells["Beta fitted"], SPACES[0])
        fit = max(distance(cells["Beta fitted"], space) / distance(cells["Beta(.5, .5)"], space) for space in SPACES)
        assert fit < fits[-1]
        fits.append(fit)
        if epochs >= 16:
            assert all(
                distance(cells["tune"], space) == min(distance(c, space) for c in cells.values()) for space in SPACES
            )
        if "discretisation loss, whitened" in cells:
            whitened, edm = (cells[name] for name in ("discretisation loss, whitened", "EDM's grid, rho 7"))
            farther = all(gap(whitened, one, space)["low"] > 0 for one in (TRAILING, BOTH_ENDS) for space in SPACES)
            assert farther == (epochs == 64)
            assert all(better(edm, rival, SPACES[1]) for rival in (TRAILING, BOTH_ENDS)) == (epochs < 16)
        clean, noisy = (cells[f"Beta(.5, .5) in the {half} half"] for half in ("clean", "noisy"))
        assert distance(clean, SPACES[0]) < 1.01 * distance(cells["Beta(.5, .5)"], SPACES[0])
        assert distance(noisy, SPACES[0]) > distance(cells[BOTH_ENDS], SPACES[0])
    exact = [distance(beta()["Beta(.5, .5)", 10], s) / distance(beta()[TRAILING, 10], s) for s in SPACES]
    said = page("paper_beta_sampling")
    ends = [f"{min(shares):.2f} to {max(shares):.2f}", f"{min(exact):.2f} to {max(exact):.2f}"]
    assert all(text.replace("0.", ".") in said for text in ends), ends


def test_evolution_is_what_a_search_over_timestep_subsets_found():
    cells = results("beta_sampling")["cells"]
    times = schedules.build("uniform-trailing", 1000, noise.vp("linear")).sigmas[:-1]
    found = [c for c in cells if c["schedule"] == "evolution" and c["model"] == EXACT]
    assert {c["steps"] for c in found if c["solver"] == "euler"} == {4, 6, 10, 15, 20}
    for cell in found:
        assert cell["family"] == "timestep-subset"
        levels = np.array(cell["sigmas"][:-1])
        assert all(np.abs(times / level - 1).min() < 1e-6 for level in levels), "not of the model's timesteps"
        for other in cells:
            same = (other["model"], other["solver"], other["steps"]) == (EXACT, cell["solver"], cell["steps"])
            if same and other["schedule"] != "evolution":
                assert np.abs(np.log(np.array(other["sigmas"][:-1]) / levels)).max() > 0.01, other["schedule"]


def test_every_row_of_the_splitting_integrators_ran_its_sampler():
    for cell in results("splitting")["cells"]:
        assert cell["plan_solver"] == cell["sampler"]
        assert cell["calls"] - 1 <= cell["network_calls"] <= cell["calls"]
        assert cell["family"] == {"position": benchmark("splitting").POSITION.get(cell["sampler"])}.get(
            cell["set"], "phase-time"
        )
        if cell["set"] == "papers" and cell["lambda_s"] is not None:
            assert cell["lambda_s"] == 1


def test_the_densities_of_the_halves_are_beta_in_one_half_of_time_and_flat_in_the_other():
    halves = benchmark("beta_sampling").halves
    for noisy in (False, True):
        density = np.array(halves(noisy))
        own, flat = (density[100:], density[:100]) if noisy else (density[:100], density[100:])
        assert math.isclose(own.sum(), 0.5)
        np.testing.assert_allclose(flat, 1 / 200)
        edge = own[-1] if noisy else own[0]
        assert math.isclose(edge, 2 / math.pi * math.asin(math.sqrt(1 / 200)))


# ------------------------------------------------------------------------------------------------------- tuning's own pages


def test_what_the_page_of_tuning_says_of_efforts():
    rows = results("effort")["rows"]
    of = {effort: [row for row in rows if row["effort"] == effort] for effort in ("normal", "high")}
    assert [len(own) for own in of.values()] == [12, 12]
    mean = math.exp(np.mean([math.log(row["ratio"][0]) for row in of["normal"]]))
    assert f"on average {100 * (mean - 1):.0f} % above" in page("tuning")
    totals = {effort: np.median([row["evaluations"]["total"] for row in own]) for effort, own in of.items()}
    assert totals["normal"] < totals["high"] / 3
    for row in of["normal"]:
        spent = row["evaluations"]
        assert spent["total"] - spent["reference"] - spent["guard"] <= 4000


def test_what_the_page_of_tuning_says_of_a_networks_images():
    cells = [cell for cell in results("network_distances")["cells"] if cell["model"] == "digits"]
    assert {(cell["solver"], cell["calls"]) for cell in cells} == {(s, n) for s in ("euler", "dpmpp2m") for n in (4, 8)}
    for cell in cells:
        for kind, tuned in cell["tuned"].items():
            for place, found in tuned["minus the best"].items():
                if place.startswith("converged"):
                    assert found["value"] - found["half"] <= 0, (cell["solver"], cell["calls"], kind, place)
                if (cell["solver"], kind) == ("euler", "coefficients"):
                    assert found["value"] + found["half"] < 0, (cell["calls"], place)
                if cell["calls"] == 4:
                    assert found["value"] - found["half"] <= 0, (cell["solver"], kind, place)


def test_what_the_page_of_tuning_says_of_emoji():
    cells = {c["calls"]: c["tuned"] for c in results("network_distances")["cells"] if c["model"] == "emoji"}
    assert {c["solver"] for c in results("network_distances")["cells"] if c["model"] == "emoji"} == {"euler"}
    assert sorted(cells) == [4, 8]

    def side(calls: int, kind: str, space: str) -> str:
        found = cells[calls][kind]["minus the best"][f"converged, {space}"]
        return "level" if abs(found["value"]) <= found["half"] else "nearer" if found["value"] < 0 else "farther"

    assert {side(n, "coefficients", space) for n in cells for space in SPACES} == {"nearer"}
    assert [side(4, "levels", space) for space in ("block10", "head-pca64")] == ["nearer", "level"]
    assert {side(8, "levels", space) for space in SPACES} == {"farther"}
    ratio = cells[8]["levels"]["error_ratio"]["value"]
    assert f"tuned error is {100 * (1 - ratio):.0f} % below" in page("tuning")
    rivals = {found["rival"] for found in cells[8]["levels"]["minus the best"].values()}
    assert all(rival.startswith("ays-") for rival in rivals)


# ----------------------------------------------------------------------------------------------------- spectral schedules


def test_the_gain_of_spectral_schedules_is_in_what_the_network_is_told():
    cells = {(c["told"], c["stepped"], c["calls"]): c for c in results("told_stepped")["cells"]}
    budgets = sorted({calls for _, _, calls in cells})
    assert budgets == [8, 16, 32]
    assert {c["n"] for c in cells.values()} == {1000}

    def loss(told: str, stepped: str) -> list[float]:
        """Percent of distance above drawn and drawn, of all calls and both spaces."""
        return [
            100 * (distance(cells[told, stepped, n], space) / distance(cells["drawn", "drawn", n], space) - 1)
            for n in budgets for space in SPACES
        ]  # fmt: skip

    telling = [*loss("mean", "drawn"), *loss("mean", "another class's")]
    assert f"the conditioning on a spectrum brings {min(telling):.0f} to {max(telling):.0f} %" in page(
        "paper_spectral_schedules"
    )
    stepping = loss("drawn", "mean")
    assert f"stepped along it {min(stepping):.0f} to {max(stepping):.0f} %" in page("paper_spectral_schedules")
    for told, stepped in (("drawn", "another class's"), ("another class's", "drawn")):
        assert max(map(abs, loss(told, stepped))) < 1


# ----------------------------------------------------------------------------------------------------------- Beta sampling

STEPS = (4, 6, 10, 15, 20)


def test_beta_beats_uniform_timesteps_on_exact_data():
    cells = beta()
    for steps in STEPS:
        for hand in HAND:
            for rival in (TRAILING, BOTH_ENDS):
                for space in SPACES:
                    near = better(cells[hand, steps], rival, space)
                    assert near or (steps, space) == (4, "head-pca64"), (hand, rival, steps, space)
            leading = [distance(cells[hand, steps], s) < distance(cells["uniform leading", steps], s) for s in SPACES]
            assert all(leading) == (steps > 4 or hand == "Beta(.5, .5), end-open")
    same = gap(cells["Beta(.6, .6)", 4], TRAILING, "head-pca64")
    assert same["low"] < 0 < same["high"]
    ratios = [
        distance(cells[rival, steps], "block10") / distance(cells["Beta(.5, .5)", steps], "block10")
        for steps in (6, 20) for rival in (TRAILING, BOTH_ENDS)
    ]  # fmt: skip
    text = page("paper_beta_sampling")
    assert "{:.1f} and {:.1f} times smaller at 6 steps, {:.1f} and {:.1f} times at 20".format(*ratios) in text
    assert 1.8 < min(ratios) < max(ratios) < 6


def test_the_clean_half_of_time_brings_the_gain_of_beta():
    cells = beta()
    clean, noisy = "Beta(.5, .5) in the clean half", "Beta(.5, .5) in the noisy half"
    for steps in STEPS:
        for space in SPACES:
            assert distance(cells[clean, steps], space) < distance(cells["Beta(.5, .5)", steps], space)
            ratio = distance(cells[noisy, steps], space) / distance(cells[BOTH_ENDS, steps], space)
            assert abs(ratio - 1) < 0.07


def test_the_score_ranks_against_the_distance():
    cells = beta()
    exact = next(one["value"] for one in results("beta_sampling")["draws"][EXACT] if one["name"] == "is")
    for steps in STEPS[1:]:
        scores = {name: score(cell) for (name, at), cell in cells.items() if at == steps}
        assert max(scores, key=scores.get) == TRAILING
        assert scores[TRAILING] > exact


def test_the_fit_the_closed_form_evolution_and_tune():
    cells = beta()

    def nearer(one: str, other: str, steps: int, spaces=SPACES) -> bool:
        return all(distance(cells[one, steps], s) < distance(cells[other, steps], s) for s in spaces)

    betas = [name for name, steps in cells if steps == 4 and name.startswith("Beta") and "half" not in name]
    assert [nearer("Beta fitted", "Beta(.5, .5)", n) for n in STEPS] == [True, True, False, False, False]
    assert not any(nearer("Beta fitted", "Beta(.5, .5)", n, ("block10",)) for n in STEPS[2:])
    for steps in STEPS:
        others = [name for name in betas if name != "Beta in closed form"]
        assert len(others) == 5
        assert all(nearer("Beta in closed form", name, steps, ("block10",)) for name in others)
        assert nearer("tune", "evolution", steps)
        assert all(nearer("evolution", name, steps, ("block10",)) for name in betas) == (steps <= 10)
        assert nearer("Beta in closed form", "evolution", steps, ("block10",)) == (steps >= 15)
        assert cells["tune", steps]["evidence"]["gain"] == (steps < 15)


# ------------------------------------------------------------------------------------------- the discretisation loss, splitting


def test_the_discretisation_loss_against_edms_grid():
    cells = beta()
    loss, grid, whitened = "discretisation loss", "EDM's grid, rho 7", "discretisation loss, whitened"
    ratios = {
        (n, s): distance(cells[loss, n], s) / distance(cells[grid, n], s) for n in STEPS for s in SPACES
    }  # fmt: skip
    assert all((ratio < 1) == (n == 4) for (n, _), ratio in ratios.items())
    textures = [100 * (ratios[n, "block10"] - 1) for n in STEPS[1:]]
    assert 15 <= min(textures) <= max(textures) <= 70
    assert min(ratios[n, "head-pca64"] for n in STEPS[1:]) >= 1.5
    assert all(distance(cells[whitened, n], s) > distance(cells[loss, n], s) for n in STEPS for s in SPACES)


def test_reduced_splitting_beats_naive_and_not_sscs_on_exact_data():
    cells = {(c["sampler"], c["set"], c["calls"]): c for c in results("splitting")["cells"]}

    def ratio(one: str, other: str, calls: int, how: str = "papers") -> list[float]:
        return [distance(cells[one, how, calls], s) / distance(cells[other, "papers", calls], s) for s in SPACES]

    for kind in ("oba", "bao", "ba", "bab"):
        at_20 = ratio(f"naive-{kind}", f"reduced-{kind}", 20)
        assert 1.8 < min(at_20) <= max(at_20) < 5
    for kind in ("oba", "bao", "obab", "ba"):
        assert min(ratio(f"naive-{kind}", f"reduced-{kind}", 50)) > 1.5
    assert max(ratio("naive-obab", "reduced-obab", 20)) < 1
    for calls in (20, 50):
        for other in ("sscs", "phase-em"):
            for space in SPACES:
                own = next(g for g in cells[other, "papers", calls]["minus"] if g["space"] == space)
                assert own["high"] < 0, (other, calls, space)
        phase = [c for (name, how, n), c in cells.items() if n == calls and how == "papers"]
        assert min(phase, key=lambda c: distance(c, "block10"))["sampler"] == "sscs"
    tuned = [ratio("reduced-oba", "reduced-oba", 20, how)[0] for how in ("lambda_s by distance", "by the spectrum")]
    assert 0.6 < tuned[0] < 0.7
    assert tuned[1] < 0.35
    assert distance(cells["sde-dpmpp2m", "position", 20], "block10") < 8


def test_more_calls_bring_images_nearer_to_the_data():
    cells = {}
    for cell in results("calls")["cells"]:
        cells.setdefault((cell["model"], cell["family"]), {})[cell["calls"]] = cell
    assert {"digits", "emoji", EXACT} <= {model for model, _ in cells}
    for (model, family), by_calls in cells.items():
        for space in SPACES:
            values = [distance(by_calls[calls], space) for calls in sorted(by_calls)]
            lows = [low_of(by_calls[calls], space) for calls in sorted(by_calls)]
            falls = all(low <= before for low, before in zip(lows[1:], values, strict=False))
            assert falls, (model, family, space, values)
            assert values[-1] < values[0], (model, family, space, values)


def test_marks_of_the_tables_point_the_right_way():
    benchmark("beta_sampling")  # puts tools on the path
    from doc_tables import papers

    def cell(value, low, high, name="fd", space="block10"):
        gap = {"name": name, "space": space, "value": value, "low": low, "high": high}
        return {"minus": {"rival": [gap]}}

    assert papers.sign(cell(-3, -4, -2), "rival", ("fd", "block10")) == "+", "nearer to the data"
    assert papers.sign(cell(3, 2, 4), "rival", ("fd", "block10")) == "-"
    assert papers.sign(cell(3, -1, 4), "rival", ("fd", "block10")) == ""
    score = cell(3, 2, 4, "is", "logits")
    assert papers.sign(score, "rival", ("is", "logits"), "higher") == "+"
    assert [papers._mark(gap) for gap in (None, {"value": -1, "low": -2, "high": -0.5})] == ["", "+"]
    assert papers._mark({"value": 1, "low": 0.5, "high": 2}) == "-"
