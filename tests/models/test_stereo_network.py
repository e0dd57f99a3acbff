"""FoundationStereo as a whole: sizes, knobs, gradients, precision.  Its published answers are in test_parity."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from models.stereo.foundation_stereo import FoundationStereo
from models.stereo.limits import check_size, legal_sizes, volume_memory_mib
from search_spaces.errors import SpecError, UserError

SIZE = (64, 96)


def build(**knobs: object) -> FoundationStereo:
    torch.manual_seed(0)
    defaults: dict[str, object] = {"encoder": "vitt", "hidden_dims": (48, 48, 48), "max_disparity": 64, "train_iters": 2, "valid_iters": 2}
    return FoundationStereo(**(defaults | knobs))  # type: ignore[arg-type]


def pair(batch: int = 1, size: tuple[int, int] = SIZE) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(batch, 3, *size, generator=generator), torch.randn(batch, 3, *size, generator=generator)


@pytest.fixture(scope="module")
def small() -> FoundationStereo:
    return build().eval()


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("encoder", "variant", "names"),
    [
        ("vits", "nvlabs", 1192),
        ("vitb", "nvlabs", 1192),
        ("vitl", "nvlabs", 1360),
        ("vits", "tao", 1147),
        ("vitb", "tao", 1147),
        ("vitl", "tao", 1315),
    ],
)
def test_published_number_of_tensors(encoder: str, variant: str, names: int) -> None:
    with torch.device("meta"):
        assert len(FoundationStereo(encoder=encoder, variant=variant).state_dict()) == names


def test_published_number_of_parameters() -> None:
    with torch.device("meta"):
        network = FoundationStereo(encoder="vits", variant="tao")
    trainable = sum(value.numel() for value in network.parameters() if value.requires_grad)
    frozen = sum(value.numel() for value in network.parameters() if not value.requires_grad)
    assert (trainable, frozen, trainable + frozen) == (37_548_518, 24_785_089, 62_333_607)


def test_published_shapes() -> None:
    with torch.device("meta"):
        network = FoundationStereo(encoder="vits").eval()
        images = torch.empty(1, 3, 256, 320), torch.empty(1, 3, 256, 320)
    watched = {"corr_stem", "cost_agg.conv1", "cost_agg.conv2", "cost_agg.conv3", "cost_agg", "classifier", "feature.conv4", "stem_2"}
    shapes: dict[str, tuple[int, ...]] = {}
    for name in watched:
        network.get_submodule(name).register_forward_hook(lambda _, __, out, name=name: shapes.update({name: tuple(out.shape)}))
    convc1 = network.update_block.encoder.convc1
    convc1.register_forward_hook(lambda _, args, __: shapes.update(lookup=tuple(args[0].shape)))
    with torch.no_grad():
        assert network(*images, iterations=1).shape == (1, 1, 256, 320)
    assert shapes == {
        "feature.conv4": (2, 128, 64, 80),
        "stem_2": (1, 32, 128, 160),
        "corr_stem": (1, 28, 104, 64, 80),
        "cost_agg.conv1": (1, 56, 52, 32, 40),
        "cost_agg.conv2": (1, 112, 26, 16, 20),
        "cost_agg.conv3": (1, 168, 13, 8, 10),
        "cost_agg": (1, 28, 104, 64, 80),
        "classifier": (1, 1, 104, 64, 80),
        "lookup": (1, 522, 64, 80),
    }


def test_forward_is_the_last_map_of_unroll(small: FoundationStereo) -> None:
    with torch.no_grad():
        initial, maps = small.unroll(*pair(2))
        final = small(*pair(2))
    assert initial.shape == (2, 1, 16, 24)
    assert [tuple(each.shape) for each in maps] == [(2, 1, *SIZE)] * 2
    torch.testing.assert_close(final, maps[-1])


def test_a_pair_does_not_depend_on_its_batch(small: FoundationStereo) -> None:
    left, right = pair(2)
    with torch.no_grad():
        torch.testing.assert_close(small(left, right)[1:], small(left[1:], right[1:]), atol=1e-3, rtol=1e-4)


def test_the_two_graphs_answer_differently() -> None:
    left, right = pair()
    with torch.no_grad():
        nvlabs, tao = (build(variant=name).eval()(left, right) for name in ("nvlabs", "tao"))
    assert tao.shape == nvlabs.shape
    assert not torch.allclose(nvlabs, tao)


@pytest.mark.parametrize("mode", ["nvlabs", "tao", "two scales", "one scale"])
def test_gradients_reach_all_but_the_listed_parameters(mode: str) -> None:
    scales = {"two scales": 2, "one scale": 1}.get(mode, 3)
    network = build(variant="tao" if mode == "tao" else "nvlabs", n_gru_layers=scales).train()
    initial, maps = network.unroll(*pair(2, (64, 64)), 2)
    (initial.mean() + sum(each.mean() for each in maps)).backward()
    without = {name for name, value in network.named_parameters() if value.requires_grad and value.grad is None}
    assert without == network.unused_parameters()
    assert {name.split(".")[0] for name in without} == {"context_zqr_convs", "cnet", "stem_4"}


def test_a_training_step_lowers_the_loss() -> None:
    network, (left, right) = build().train(), pair(2, (64, 64))
    trained = [value for value in network.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    losses = []
    for _ in range(4):
        initial, maps = network.unroll(left, right)
        loss = (initial - 3).abs().mean() + sum((each - 12).abs().mean() for each in maps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_recomputed_updates_give_equal_gradients() -> None:
    gradients = []
    for recompute in (False, True):
        network = build(checkpoint_updates=recompute).train()
        torch.manual_seed(1)  # the disparity transformer drops out
        _, maps = network.unroll(*pair(2, (64, 64)))
        sum(each.mean() for each in maps).backward()
        gradients.append([value.grad for value in network.parameters() if value.grad is not None])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_the_side_network_is_never_trained() -> None:
    network = build().train()
    assert network.training
    assert not any(module.training for module in network.feature.dino.modules())
    assert not any(value.requires_grad for value in network.feature.dino.parameters())


@pytest.mark.parametrize(
    ("knob", "channels"), [({"corr_levels": 1}, 1 * 9 * 29), ({"corr_radius": 2}, 2 * 5 * 29), ({"corr_levels": 3}, 3 * 9 * 29)]
)
def test_lookup_knobs_set_the_width_of_the_lookup(knob: dict[str, object], channels: int) -> None:
    network = build(**knob).eval()
    assert network.update_block.encoder.convc1.in_channels == channels
    with torch.no_grad():
        assert network(*pair(), iterations=1).isfinite().all()


def test_iterations_are_the_ones_asked_for() -> None:
    network = build(train_iters=3, valid_iters=2).eval()
    with torch.no_grad():
        assert len(network.unroll(*pair())[1]) == 3
        assert len(network.unroll(*pair(), 1)[1]) == 1
        maps = network.unroll(*pair(), 4)[1]
        torch.testing.assert_close(network(*pair()), maps[1])
        torch.testing.assert_close(network(*pair(), iterations=4), maps[3])


@pytest.mark.parametrize(("scales", "units"), [(3, {"gru04", "gru08", "gru16"}), (2, {"gru04", "gru08"}), (1, {"gru04"})])
def test_scales_are_the_ones_asked_for(scales: int, units: set[str]) -> None:
    network = build(n_gru_layers=scales).eval()
    assert {name for name, _ in network.update_block.named_children() if name.startswith("gru")} == units
    seen: list[Tensor] = []
    network.update_block.gru04.register_forward_hook(lambda _, args, out: seen.extend((args[0], out)))
    with torch.no_grad():
        network(*pair(), iterations=1)
    assert not torch.equal(seen[0], seen[1])  # the finest state moves, whatever the number of scales


def test_the_hidden_width_is_the_one_asked_for() -> None:
    small_width, published = build(hidden_dims=(16, 16, 16)), build(hidden_dims=(128, 128, 128))
    assert small_width.update_block.disp_head.conv[0].in_channels == 16
    assert sum(value.numel() for value in small_width.parameters()) < sum(value.numel() for value in published.parameters())
    with torch.no_grad():
        assert small_width.eval()(*pair()).isfinite().all()


def test_a_given_start_replaces_the_volume_estimate(small: FoundationStereo) -> None:
    with torch.no_grad():
        own = small.unroll(*pair(), 1)[0]
        torch.testing.assert_close(small(*pair(), initial=own), small(*pair()))
        assert not torch.allclose(small(*pair(), initial=own + 5), small(*pair()), atol=1)


def test_short_memory_changes_nothing(small: FoundationStereo, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.no_grad():
        whole = small(*pair())
        monkeypatch.setattr("models.stereo.geometry.POINTS_AT_ONCE", 100)
        monkeypatch.setattr(small, "low_memory", True)
        assert torch.equal(small(*pair()), whole)


def test_mixed_precision_stays_near_the_full_answer(small: FoundationStereo, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.no_grad():
        full = small(*pair())
        monkeypatch.setattr(small, "mixed_precision", True)
        mixed = small(*pair())
    assert mixed.dtype == torch.float32
    assert not torch.equal(mixed, full)
    assert (mixed - full).abs().mean() < 0.5


def test_autocast_of_the_caller_is_respected(small: FoundationStereo) -> None:
    dtypes: dict[str, torch.dtype] = {}

    def remember(module: nn.Module, _: object, out: Tensor) -> None:
        dtypes[type(module).__name__] = out.dtype

    hooks = [layer.register_forward_hook(remember) for layer in (small.proj_cmb, small.cost_agg)]
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert small(*pair()).dtype == torch.float32
    for hook in hooks:
        hook.remove()
    assert set(dtypes.values()) == {torch.bfloat16}


@pytest.mark.parametrize("disparity", [0, 48, 100, -32])
def test_a_disparity_off_the_grid_names_its_neighbours(disparity: int) -> None:
    with pytest.raises(SpecError, match=f"multiple of 32, but got {disparity}") as caught:
        build(max_disparity=disparity)
    assert all(int(word) % 32 == 0 for word in (caught.value.hint or "").split() if word.isdigit())


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"encoder": "vitg"}, "model.encoder of a stereo network"),
        ({"variant": "nvidia"}, "model.variant"),
        ({"n_gru_layers": 4}, "model.n_gru_layers"),
        ({"hidden_dims": (128, 128, 64)}, "model.hidden_dims"),
        ({"hidden_dims": (40, 40, 40)}, "model.hidden_dims"),
        ({"hidden_dims": ()}, "model.hidden_dims"),
        ({"corr_levels": 0}, "model.corr_levels"),
        ({"corr_levels": 6}, "model.corr_levels"),
        ({"corr_radius": 0}, "model.corr_radius"),
    ],
)
def test_an_impossible_knob_is_refused(knobs: dict[str, object], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        build(**knobs)


@pytest.mark.parametrize(
    ("size", "words"), [((112, 128), "96 or 128"), ((64, 100), "96 or 128"), ((16, 64), "a height of 32"), ((32, 32), "64x64")]
)
def test_an_illegal_size_names_the_nearest_legal_one(small: FoundationStereo, size: tuple[int, int], words: str) -> None:
    with pytest.raises(UserError) as caught:
        small(*pair(size=size))
    assert words in (caught.value.hint or "")


def test_the_smallest_legal_size_can_be_trained() -> None:
    for variant in ("nvlabs", "tao"):
        _, maps = build(variant=variant, max_disparity=32).train().unroll(*pair(size=(32, 64)), 1)
        maps[0].mean().backward()


def test_images_of_unequal_size_are_refused(small: FoundationStereo) -> None:
    left, right = pair()
    with pytest.raises(UserError, match="left and right"):
        small(left, right[..., :64])


def test_too_many_levels_for_a_width() -> None:
    with pytest.raises(UserError, match=r"too small for model\.corr_levels=5"):
        check_size(64, 32, corr_levels=5)


def test_legal_sizes() -> None:
    assert [legal_sizes(side) for side in (1, 32, 100, 64)] == [(32,), (32,), (96, 128), (64,)]


def test_memory_of_the_volume() -> None:
    # four volumes of 28 x 104 x 64 x 80 float32
    assert volume_memory_mib(256, 320, 416) == pytest.approx(4 * 28 * 104 * 64 * 80 * 4 / 2**20)
    assert volume_memory_mib(256, 320, 416, batch=2) == 2 * volume_memory_mib(256, 320, 416)
    assert volume_memory_mib(256, 320, 416, training=True) > 9 * volume_memory_mib(256, 320, 416)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::RuntimeWarning")  # the compiler's own
def test_an_update_is_compiled_once_however_many_there_are(small: FoundationStereo) -> None:
    graphs = []

    def plainly(graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    compiled = copy.copy(small)
    compiled.compile(backend=plainly)
    with torch.inference_mode():
        torch.testing.assert_close(compiled(*pair(), 3), small(*pair(), 3))
    assert len(graphs) == 3  # the start, an update, the upsampling
