"""Learning-rate laws by hand and against PyTorch; parameter groups; optimisers; clipping."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from search_spaces.errors import SpecError
from search_spaces.spec import Spec, spec_from_dict
from trials.module import DepthModule
from trials.optim import Schedule, make_optimizer, make_schedule, make_scheduler, parameter_groups, set_beta1


def law(kind: str, *, total: int = 100, warmup: int = 0, min_lr: float = 0.0) -> Schedule:
    return Schedule(kind=kind, min_lr=min_lr, milestones=(10, 20), step_size=10, decay=0.1, warmup_steps=warmup, total_steps=total)


def factors(schedule: Schedule, *steps: int) -> list[float]:
    return [schedule.factor(step, base_lr=1.0) for step in steps]


def two_groups() -> torch.optim.Optimizer:
    """Encoder at rate 1, head at rate 10."""
    return torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (1.0, 10.0)], momentum=0.9)


def advance(optimizer: torch.optim.Optimizer, scheduler: torch.optim.lr_scheduler.LRScheduler) -> None:
    optimizer.step()
    scheduler.step()


def spec_of(model_type: str = "MetricDepthAnything", *, clip: float = 0.1, **optim: object) -> Spec:
    stereo = model_type == "FoundationStereo"
    return spec_from_dict(
        {
            "model": {"model_type": model_type, "encoder": "vits"},
            "dataset": {} if stereo or model_type.startswith("Relative") else {"min_depth": 0.1, "max_depth": 10.0},
            "train": {"optim": optim, "clip_grad_norm": clip},
        }
    )


class Network(nn.Module):
    """Named as the mono networks are: encoder and head, one weight that no forward pass reads."""

    def __init__(self) -> None:
        super().__init__()
        self.pretrained = nn.Linear(2, 2, bias=False)
        self.pretrained.mask_token = nn.Parameter(torch.zeros(1))
        self.depth_head = nn.Linear(2, 1, bias=False)

    def unused_parameters(self) -> frozenset[str]:
        return frozenset({"pretrained.mask_token"})


# 104 steps, of which 4 are warm-up, so the laws with a horizon have 100 to go; factors of the group's rate at some steps
BY_HAND = {
    "MultiStepLR": {0: 0.25, 1: 0.5, 3: 1.0, 9: 1.0, 10: 0.1, 19: 0.1, 20: 0.01, 103: 0.01},
    "StepLR": {0: 0.25, 3: 1.0, 9: 1.0, 10: 0.1, 19: 0.1, 20: 0.01, 30: 0.001},
    "LambdaLR": {0: 0.25, 2: 0.75, 4: 1.0, 29: 0.75, 54: 0.5, 103: 0.01, 104: 0.0},
    "PolynomialLR": {0: 0.25, 2: 0.75, 4: 1.0, 29: 0.75, 54: 0.5, 103: 0.01, 104: 0.0},
    "CosineAnnealingLR": {0: 0.25, 4: 1.0, 29: 0.2 + 0.4 * (1 + math.sqrt(0.5)), 54: 0.6, 104: 0.2},
    # peak after 0.3 x 100 - 1 = 29 of its own steps, half way down after 29 + 35 of them
    "OneCycleLR": {0: 0.01, 3: 0.04, 4: 0.04, 33: 1.0, 68: 0.500002, 103: 4e-6},
}


@pytest.mark.parametrize("kind", BY_HAND)
def test_a_law_by_hand(kind: str) -> None:
    schedule = law(kind, total=104, warmup=4, min_lr=0.2)
    assert factors(schedule, *BY_HAND[kind]) == pytest.approx(list(BY_HAND[kind].values()))


@pytest.mark.parametrize("kind", BY_HAND)
def test_the_head_keeps_ten_times_the_rate_of_the_encoder(kind: str) -> None:
    optimizer = two_groups()
    scheduler = make_scheduler(optimizer, law(kind, total=104, warmup=4))
    for step in range(104):
        small, large = (group["lr"] for group in optimizer.param_groups)
        assert small == pytest.approx(law(kind, total=104, warmup=4).factor(step, base_lr=1.0))
        assert large == pytest.approx(10 * small)
        advance(optimizer, scheduler)


@pytest.mark.parametrize("kind", BY_HAND)
def test_a_schedule_that_is_continued_gives_the_rates_of_one_that_is_not(kind: str) -> None:
    whole, first, second = two_groups(), two_groups(), two_groups()
    rates = []
    scheduler = make_scheduler(whole, law(kind, total=40, warmup=4))
    for _ in range(39):
        advance(whole, scheduler)
        rates.append([group["lr"] for group in whole.param_groups])
    scheduler = make_scheduler(first, law(kind, total=40, warmup=4))
    for _ in range(17):
        advance(first, scheduler)
    again = make_scheduler(second, law(kind, total=40, warmup=4))
    second.load_state_dict(first.state_dict())
    again.load_state_dict(scheduler.state_dict())
    for step in range(17, 39):
        advance(second, again)
        assert [group["lr"] for group in second.param_groups] == rates[step]


def test_min_lr_is_the_end_of_every_group() -> None:
    schedule = law("CosineAnnealingLR", min_lr=0.2)
    assert [schedule.factor(100, base_lr=base) * base for base in (1.0, 10.0)] == pytest.approx([0.2, 0.2])


def test_min_lr_above_the_rate_never_raises_it() -> None:
    assert law("CosineAnnealingLR", min_lr=5.0).factor(60, base_lr=1.0) == 1.0


def test_beta1_moves_with_one_cycle_alone() -> None:
    schedule = law("OneCycleLR", total=104, warmup=4)
    assert [schedule.beta1(step) for step in (0, 4, 33, 68, 103)] == pytest.approx([0.95, 0.95, 0.85, 0.9, 0.95])
    assert law("StepLR").beta1(50) == 0.9


def test_sgd_keeps_its_momentum_under_one_cycle() -> None:
    optimizer = two_groups()
    set_beta1(optimizer, law("OneCycleLR"), 5)
    assert [(group["momentum"], "betas" in group) for group in optimizer.param_groups] == [(0.9, False)] * 2


def test_one_cycle_is_pytorchs_in_rate_and_beta1() -> None:
    ours, theirs = (torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=1.0) for _ in range(2))
    scheduler = make_scheduler(ours, law("OneCycleLR", total=40))
    reference = torch.optim.lr_scheduler.OneCycleLR(theirs, max_lr=1.0, total_steps=40)
    for step in range(40):
        set_beta1(ours, law("OneCycleLR", total=40), step)
        for name in ("lr", "betas"):
            assert ours.param_groups[0][name] == pytest.approx(theirs.param_groups[0][name], rel=1e-6)
        if step < 39:
            advance(ours, scheduler)
            advance(theirs, reference)


def test_a_warmup_longer_than_half_the_run_is_cut() -> None:
    assert make_schedule(spec_of(warmup_steps=500), 12).warmup_steps == 6
    assert make_schedule(spec_of(warmup_steps=0), 12).warmup_steps == 0


def test_a_run_of_one_step_has_a_learning_rate() -> None:
    assert make_schedule(spec_of(warmup_steps=20), 1).factor(0, base_lr=1.0) == 1.0


def test_the_head_of_a_mono_network_learns_ten_times_as_fast() -> None:
    groups = parameter_groups(Network(), spec_of(lr=1e-5))
    assert [(group["name"], group["lr"], len(group["params"])) for group in groups] == [
        ("encoder", 1e-5, 1),
        ("head", pytest.approx(1e-4), 1),
    ]


def test_frozen_parameters_are_left_out() -> None:
    network = Network()
    network.pretrained.requires_grad_(False)
    assert [group["name"] for group in parameter_groups(network, spec_of())] == ["head"]


def test_a_network_without_trainable_parameters_is_refused() -> None:
    with pytest.raises(SpecError, match="no trainable parameter"):
        parameter_groups(Network().requires_grad_(False), spec_of())


def test_stereo_has_one_group_and_the_momentum_of_the_spec() -> None:
    optimizer = make_optimizer(Network(), spec_of("FoundationStereo", optimizer="SGD", momentum=0.7))
    assert [(len(group["params"]), group["momentum"]) for group in optimizer.param_groups] == [(2, 0.7)]  # mask_token stays out


def test_adamw_is_fused_on_a_cpu() -> None:
    optimizer = make_optimizer(Network(), spec_of(weight_decay=0.01))
    assert isinstance(optimizer, torch.optim.AdamW)
    assert optimizer.defaults["fused"] is True
    assert optimizer.param_groups[0]["weight_decay"] == 0.01


def test_scheduler_state_is_plain_data() -> None:
    optimizer = make_optimizer(Network(), spec_of())
    state = make_scheduler(optimizer, make_schedule(spec_of(), 10)).state_dict()
    assert set(state["lr_lambdas"]) == {None}


@pytest.mark.parametrize(("clip", "expected"), [(1.0, [0.6, 0.8]), (10.0, [3.0, 4.0]), (0.0, [3.0, 4.0])])
def test_clipping_bounds_the_norm_over_all_groups(clip: float, expected: list[float]) -> None:
    first, second = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    first.grad, second.grad = torch.tensor([3.0]), torch.tensor([4.0])  # norm 5; by value they would both become 1
    module = DepthModule(Network(), spec_of(clip=clip), total_steps=1)
    module.configure_gradient_clipping(torch.optim.AdamW([{"params": [first]}, {"params": [second]}], lr=1.0))
    assert [first.grad.item(), second.grad.item()] == pytest.approx(expected, rel=1e-5)
