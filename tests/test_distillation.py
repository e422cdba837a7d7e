"""A plan that gets the outputs that distillation asks for is where its teacher is, and a network can learn them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import sigmatune as st
from exact import PATHS, gaussian
from sigmatune import schedules
from sigmatune.core.loop import run
from sigmatune.core.schedule import Schedule
from sigmatune.core.unrolled import rolled, unrolled
from sigmatune.core.wrappers import Counted
from sigmatune.models.conditional import ConditionalDenoiser
from sigmatune.models.conditioning import Conditioned, Conditioning
from sigmatune.models.network import NetworkDenoiser
from sigmatune.noise import VE, vp
from sigmatune.plan import Plan, compile_plan
from sigmatune.support.errors import SigmaTuneError
from sigmatune.training import draws
from sigmatune.training.data import Batch, Pictures
from sigmatune.training.distillation import Following, StudentConditions, targets
from sigmatune.training.recipe import Saving, Training
from sigmatune.training.run_log import lines
from sigmatune.training.run_options import RunOptions
from sigmatune.training.teacher import teacher_plan
from sigmatune.training.trainer import Trainer


def of(model, steps=4, solver="dpmpp2m", family="uniform-trailing"):
    return compile_plan(schedules.build(family, steps, model.path), solver, model)


def batch(rows, step=0):
    nothing = torch.zeros(len(rows))
    return Batch(nothing, nothing, nothing, list(rows), step)


class Said(NetworkDenoiser):
    """Answers call k with the k-th of given outputs, whatever it is asked."""

    def __init__(self, model, outputs):
        super().__init__(lambda x_t, t: x_t, model.shape, model.path, "sample", dtype=torch.float64)
        self.outputs = list(outputs.unbind(1))

    def denoise(self, z, sigma):
        return self.outputs.pop(0)


def answered(plan, model, outputs, eps):
    """The end points of a plan whose network says these outputs, by the one loop, and the inputs that it was asked at."""
    seen, table = [], plan.coefficients
    start = [share * eps for share in table.start[:, 0].tolist()]
    keep = lambda step: seen.append(step.z.clone())  # noqa: E731
    end = run(table, Said(model, outputs), indices=range(len(eps)), state=start, on_step=keep)
    return end, torch.stack(seen, dim=1)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("solver", ["euler", "dpmpp2m", "unipc2", "unipc3", "deis3", "ipndm4"])
def test_the_targets_lead_the_plan_along_the_teacher(path, solver):
    model = gaussian(PATHS[path])
    plan = of(model, 5, solver)
    walk = Following(model, plan, "sample").walk(3, 7, range(11))
    eps = draws.normals(3, 7, range(11), model.shape).double()
    end, asked = answered(plan, model, walk.target, eps)
    torch.testing.assert_close(end, walk.end, rtol=0, atol=1e-10)
    torch.testing.assert_close(asked, walk.z, rtol=0, atol=1e-10)
    exact = model.flow(eps, np.inf, 0.0)  # the start is unit noise, which is what the ODE has at infinity
    ours = answered(plan, model, walk.target, eps)[0]
    plain = run(plan.coefficients, model, indices=range(11), state=[s * eps for s in plan.coefficients.start[:, 0]])
    assert (ours - exact).square().mean() < 0.2 * (plain - exact).square().mean()
    levels = torch.tensor([[level] * 11 for level in plan.coefficients.q.tolist()[1:]])
    for k, sigma in enumerate(levels, start=1):
        torch.testing.assert_close(walk.z[:, k], model.flow(eps, np.inf, sigma), rtol=0, atol=0.02)


def test_forward_substitution_works_for_a_solver_that_asks_twice():
    model = gaussian()
    plan, eps = of(model, 4, "heun"), torch.randn(3, *model.shape, dtype=torch.float64)
    states = [model.flow(eps, np.inf, level) for level in plan.coefficients.q.tolist()[1:]] + [
        model.flow(eps, np.inf, 0.0)
    ]
    end, asked = answered(plan, model, targets(unrolled(plan.coefficients), eps, states), eps)
    torch.testing.assert_close(end, states[-1], rtol=0, atol=1e-10)
    torch.testing.assert_close(asked[:, 1:], torch.stack(states[:-1], dim=1), rtol=0, atol=1e-10)


def test_a_plan_that_is_the_teachers_own_asks_for_the_teachers_outputs():
    model, said = gaussian(), []
    plan = of(model, 12, "euler", "karras")
    one = Following(model, plan, "sample", fine=plan)
    walk = one.walk(0, 0, range(4))
    for k, level in enumerate(plan.coefficients.q.tolist()):
        said.append(model(walk.z[:, k], level))
    torch.testing.assert_close(walk.target, torch.stack(said, dim=1), rtol=0, atol=1e-10)
    with pytest.raises(SigmaTuneError, match="nothing to distil"):
        one.scaled()


class Table(torch.nn.Module):
    """Knows the outputs for the states of a walk by heart: a float64 network with one parameter, added to all of them."""

    def __init__(self, path, walk, levels, shift=0.0):
        super().__init__()
        self.shift = torch.nn.Parameter(torch.tensor(shift, dtype=torch.float64))
        scale = torch.from_numpy(path.state_scale(np.array(levels)))
        self.seen = (walk.z * scale.view(1, -1, 1, 1, 1)).flatten(0, 1)
        self.outputs = walk.target.flatten(0, 1)

    def forward(self, x_t, t):
        nearest = torch.cdist(x_t.flatten(1), self.seen.flatten(1)).argmin(dim=1)
        return self.outputs[nearest] + self.shift


@pytest.mark.parametrize("path", ["ve", "flow", "vp"])
def test_who_follows_has_no_loss_and_an_error_counts_by_what_it_moves(path):
    model = gaussian(PATHS[path])
    plan = of(model, 4, "dpmpp2m")
    one = Following(model, plan, "sample", micro_batch=3)
    walk = one.walk(0, 2, range(3))
    assert one.losses(Table(model.path, walk, one.levels), batch(range(12), 2), 0).max() < 1e-24
    found = one.losses(Table(model.path, walk, one.levels, 0.1), batch(range(12), 2), 0)
    W = unrolled(plan.coefficients).W
    expected = torch.tensor([W[k + 1, k] ** 2 for k in range(4)])
    torch.testing.assert_close(found.view(3, 4), (0.01 * expected / expected.mean()).expand(3, 4), rtol=1e-9, atol=0)
    # What a wrong output moves: the next input, or the result.
    eps, wrong = draws.normals(0, 2, range(3), model.shape).double(), walk.target.clone()
    wrong[:, 1] += 0.1
    moved = answered(plan, model, wrong, eps)[1][:, 2] - walk.z[:, 2]
    torch.testing.assert_close(moved.square().mean(), 0.01 * expected[1], rtol=1e-9, atol=0)


def test_the_loss_of_a_student_that_is_the_teacher_is_one():
    model = gaussian()
    one = Following(model, of(model, 4), "sample")

    class Same(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.nothing = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))

        def forward(self, x_t, t):
            sigma = torch.from_numpy(model.path.sigma(t.numpy()))
            scale = torch.from_numpy(model.path.state_scale(sigma.numpy())).view(-1, 1, 1, 1)
            return model(x_t / scale, sigma) + self.nothing

    scaled = one.scaled(trajectories=128)
    assert one.scale == 1
    assert float(scaled.losses(Same(), batch(range(512)), 0).detach().mean()) == pytest.approx(1, abs=0.25)
    assert one.scaled().scale == one.scaled().scale != one.scaled(seed=1).scale


# ------------------------------------------------------------------------------------------------------ networks


def unet(told=None, **more):
    import diffusers

    torch.manual_seed(0)
    return diffusers.UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(8,), norm_num_groups=4,
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), add_attention=False, class_embed_type=told,
        mid_block_type=None, **more,
    )  # fmt: skip


def test_rows_may_be_shared_in_any_way_and_a_trajectory_is_walked_once():
    network = Conditioned(unet(), None)
    path = vp()
    inner = NetworkDenoiser(network, (1, 8, 8), path, "epsilon")
    teacher = Counted(inner)
    one = Following(teacher, of(teacher, 3), "epsilon", fine=8, micro_batch=4)
    whole = one.walk(5, 1, range(6))
    assert teacher.calls == 2 * one.fine.calls
    for part in ([2, 3], [5], [0, 4, 2]):
        again = one.walk(5, 1, part)
        for ours, theirs in zip(again, whole, strict=True):
            assert torch.equal(ours, theirs[part])
    student = Table(path, whole, one.levels, 0.3)  # row by row the same arithmetic, whatever the batch

    def losses(rows):
        return Following(teacher, of(teacher, 3), "sample", fine=8, micro_batch=4).losses(student, batch(rows, 1), 5)

    together = losses(range(16))  # 5 trajectories and a call of a sixth
    assert torch.equal(together, torch.cat([losses(range(7)), losses(range(7, 16))]))
    before = teacher.calls
    losses(range(3, 9))
    assert teacher.calls - before == one.fine.calls


def test_a_network_learns_to_follow(tmp_path):
    model = gaussian(VE(0.02, 20.0))
    network = unet()
    plan = of(model, 3, "euler", "log-uniform")

    class Wrapped(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network

        def forward(self, x_t, t):
            return self.inner(x_t / (1 + t.view(-1, 1, 1, 1) ** 2).sqrt(), t.log() * 100, return_dict=False)[0]

    student = Wrapped()
    as_model = NetworkDenoiser(student, model.shape, model.path, "sample")

    def missed():
        eps = draws.normals(0, 2**40, range(16), model.shape)
        one = Following(model, plan, "sample").walk(0, 2**40, range(16))
        start = [s * eps for s in plan.coefficients.start[:, 0].float()]
        with torch.no_grad():
            end = run(plan.coefficients, as_model, indices=range(16), state=start)
        return float((end - one.end).square().mean())

    before = missed()
    settings = Training(images=100 * 24, batch=24, rate=5e-3, warmup=5, channels_last=False)
    data = Pictures(torch.zeros(1, *model.shape))  # not looked at
    run_ = Trainer(
        student, Following(model, plan, "sample", fine=12), data, settings, tmp_path,
        RunOptions(saving=Saving(trackers=[], log=1), device="cpu"),
    )  # fmt: skip
    run_.run()
    found = [loss for line in lines(tmp_path) for loss in line["losses"]]
    assert np.mean(found[-10:]) < 0.3 * np.mean(found[:3])
    assert missed() < 0.3 * before


def test_classes_and_ends_are_told_to_teacher_and_student():
    network = unet(told="identity")
    told = Conditioning(32, classes=("a", "b"), ends=True, default_ends=(0.1, 9.0))
    torch.nn.init.normal_(told.second.weight)
    module = Conditioned(network, told)
    teacher = ConditionalDenoiser(network, vp(), "epsilon", told)
    one = Following(
        teacher, of(teacher, 3), "epsilon", fine=6, conditions=StudentConditions(("a", "b"), 0.3, (0.1, 9.0))
    )
    labels = one._labels(0, 0, range(200))
    assert np.bincount(labels.numpy()) / 200 == pytest.approx([0.35, 0.35, 0.3], abs=0.1)
    walk = one.walk(0, 0, range(4), torch.tensor([0, 1, 2, 0]))
    for i, name in enumerate(["a", "b", None, "a"]):
        alone = teacher if name is None else teacher.given(name)
        same = Following(alone, of(alone, 3), "epsilon", fine=6).walk(0, 0, [i])
        torch.testing.assert_close(walk.end[i : i + 1], same.end, rtol=0, atol=1e-5)
    # The student that is the teacher misses as the teacher does: what it is told agrees.
    labels = one._labels(0, 5, range(8))
    assert set(labels.tolist()) == {0, 1, 2}
    walk = one.walk(0, 5, range(8), labels)
    same = teacher.conditioned(range(8), [("a", "b", None)[label] for label in labels.tolist()], None).rows(range(8))
    said = torch.stack([same(walk.z[:, k].float(), q) for k, q in enumerate(one.levels)], dim=1)
    missed = (said - walk.target).square().flatten(2).mean(dim=2) * one.weight
    with torch.no_grad():
        found = one.losses(module, batch(range(24), 5), 0).view(8, 3)
    torch.testing.assert_close(found.double(), missed, rtol=1e-4, atol=0)
    indexed = ConditionalDenoiser(unet(num_class_embeds=2), vp(), "epsilon")
    sure = Following(indexed, of(indexed, 3), "epsilon", fine=6, conditions=StudentConditions(("0", "1"), 0))
    assert sure.walk(0, 0, [0], torch.tensor([1])).end.isfinite().all()
    with pytest.raises(SigmaTuneError, match="needs a class"):
        sure.walk(0, 0, [0], torch.tensor([2]))


def test_a_network_of_whole_timesteps_is_asked_at_those():
    model = gaussian(vp())
    model.integer_time = True
    plan = of(model, 4)
    assert set(plan.coefficients.q.tolist()[1:]) <= set(teacher_plan(model, plan).coefficients.q.tolist())
    near = plan.schedule.sigmas.copy()
    near[1:-1] *= 1 + 1e-9  # as another program may have written them: still whole timesteps
    other = compile_plan(Schedule(near), "dpmpp2m")
    assert Following(model, other, "sample").levels[1:] != plan.coefficients.q.tolist()[1:]
    fine = teacher_plan(model, plan, 2000)
    assert fine.calls == 1000
    assert Following(model, plan, "sample").walk(0, 0, range(2)).end.isfinite().all()


# --------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("solver", ["dpmpp2m", "heun"])
def test_a_teacher_spans_the_range_and_passes_the_levels(path, solver):
    model = gaussian(PATHS[path])
    plan = of(model, 4)
    fine = teacher_plan(model, plan, 25, solver)
    levels = fine.schedule.sigmas[:-1]
    assert fine.calls <= 25
    assert fine.steps == (25 if solver == "dpmpp2m" else 13)
    assert (levels[0], levels[-1]) == (model.path.sigma_max, model.path.sigma_min)
    assert set(plan.coefficients.q.tolist()[1:]) <= set(levels.tolist())
    gaps = -np.diff(np.log(levels[np.isfinite(levels)]))
    assert gaps.max() < 3.1 * np.median(gaps)
    with pytest.raises(SigmaTuneError, match=r"needs . calls or more, not 3"):
        teacher_plan(model, plan, 3)


def test_what_cannot_be_followed_is_refused():
    model = gaussian()
    plan = of(model, 4)
    for solver in ("ancestral", "reduced-oba"):
        with pytest.raises(SigmaTuneError, match="only a deterministic plan with one schedule for all rows"):
            Following(model, compile_plan(schedules.build("karras", 4, model.path), solver), "sample")
    rows = Schedule(np.stack([plan.schedule.sigmas] * 2))
    with pytest.raises(SigmaTuneError, match="one schedule for all rows"):
        Following(model, compile_plan(rows, "euler", model), "sample")
    with pytest.raises(SigmaTuneError, match="one state would have two targets"):
        Following(model, of(model, 4, "heun"), "sample")
    form = unrolled(plan.coefficients)
    W = form.W.clone()
    W[2, 1] = 0
    idle = Plan(plan.schedule, "custom", rolled(form._replace(W=W)))
    with pytest.raises(SigmaTuneError, match="call 2 does not affect"):
        Following(model, idle, "sample")
    with pytest.raises(SigmaTuneError, match=r"does not stop at sigma"):
        Following(model, plan, "sample", fine=of(model, 40, family="karras"))
    with pytest.raises(SigmaTuneError, match="outside"):
        Following(gaussian(VE(0.01, 20.0)), plan, "sample")
    assert Following(model, st.Plan(plan.schedule, "custom", rolled(form)), "sample").levels == form.q.tolist()
