"""Learning-rate laws by hand and against PyTorch; parameter groups; optimisers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from search_spaces.errors import SpecError
from search_spaces.spec import Spec, spec_from_dict
from trials.optim import Schedule, make_optimizer, make_schedule, make_scheduler, parameter_groups


def law(kind: str, *, total: int = 100, warmup: int = 0, min_lr: float = 0.0) -> Schedule:
    return Schedule(kind=kind, min_lr=min_lr, milestones=(10, 20), step_size=10, decay=0.1, warmup_steps=warmup, total_steps=total)


def factors(schedule: Schedule, *steps: int) -> list[float]:
    return [schedule.factor(step, base_lr=1.0) for step in steps]


def spec_of(model_type: str = "MetricDepthAnything", **optim: object) -> Spec:
    stereo = model_type == "FoundationStereo"
    return spec_from_dict(
        {
            "model": {"model_type": model_type, "encoder": "vits"},
            "dataset": {} if stereo or model_type.startswith("Relative") else {"min_depth": 0.1, "max_depth": 10.0},
            "train": {"optim": optim},
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


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("MultiStepLR", [1.0, 1.0, 0.1, 0.1, 0.01]),
        ("StepLR", [1.0, 1.0, 0.1, 0.1, 0.01]),
        ("LambdaLR", [1.0, 0.91, 0.9, 0.81, 0.8]),
        ("PolynomialLR", [1.0, 0.91, 0.9, 0.81, 0.8]),
    ],
)
def test_laws_without_warmup(kind: str, expected: list[float]) -> None:
    assert factors(law(kind), 0, 9, 10, 19, 20) == pytest.approx(expected)


def test_cosine_ends_at_min_lr() -> None:
    assert factors(law("CosineAnnealingLR", min_lr=0.2), 0, 50, 100) == pytest.approx([1.0, 0.6, 0.2])


def test_min_lr_above_the_rate_never_raises_it() -> None:
    assert law("CosineAnnealingLR", min_lr=5.0).factor(60, base_lr=1.0) == 1.0


@pytest.mark.parametrize("kind", ["MultiStepLR", "StepLR", "LambdaLR", "PolynomialLR", "CosineAnnealingLR"])
def test_warmup_is_linear_and_starts_above_zero(kind: str) -> None:
    assert factors(law(kind, warmup=4), 0, 1, 2, 3) == pytest.approx([0.25, 0.5, 0.75, 1.0])


def test_horizon_laws_begin_after_the_warmup_and_end_with_the_run() -> None:
    schedule = law("LambdaLR", total=104, warmup=4)
    assert factors(schedule, 4, 54, 104) == pytest.approx([1.0, 0.5, 0.0])


def test_one_cycle_is_pytorchs_and_keeps_the_ratio_of_the_groups() -> None:
    ours = torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (1.0, 10.0)])
    scheduler = make_scheduler(ours, law("OneCycleLR", total=40))
    theirs = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = torch.optim.lr_scheduler.OneCycleLR(theirs, max_lr=1.0, total_steps=40, cycle_momentum=False)
    for _ in range(39):
        ours.step()
        theirs.step()
        scheduler.step()
        reference.step()
        small, large = (group["lr"] for group in ours.param_groups)
        assert small == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-6)
        assert large == pytest.approx(10 * small)


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
