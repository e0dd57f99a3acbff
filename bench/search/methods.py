"""Names on the command line -> search methods: peers by name, ours by algorithm or as SEARCHER+RULE."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from automl.algorithms import check_settings, find_algorithm
from automl.fidelity import make_rule
from automl.searchers import find_searcher
from bench.search.method import MakeMethod
from bench.search.neps import neps_priorband
from bench.search.ours import OurSearch, Variant
from bench.search.peers import RandomSearch, RayAsha, tpe_hyperband, tpe_median
from bench.search.syne import CLASSES, syne_method
from bench.search.tao import BRAINS, tao_method


def _ray_asha() -> MakeMethod:
    return lambda setting, clock: RayAsha(setting, clock, eta=setting.eta)


def _ray_asha_4() -> MakeMethod:
    return lambda setting, clock: RayAsha(setting, clock, eta=4)


PEERS: Mapping[str, Callable[[], MakeMethod]] = {
    "random": lambda: RandomSearch,
    "ray-asha": _ray_asha,
    "ray-asha-eta4": _ray_asha_4,
    "optuna-tpe-hyperband": lambda: tpe_hyperband,
    "optuna-tpe-median": lambda: tpe_median,
    **{name: partial(syne_method, name) for name in CLASSES},
    "neps-priorband": neps_priorband,
    **{name: partial(tao_method, name) for name in BRAINS},
}


def find_method(name: str) -> MakeMethod:
    """The method `name`; StudyError or ValueError for an unknown one, NotInstalled when its package is not there."""
    if name in PEERS:
        return PEERS[name]()
    variant = find_variant(name)
    return lambda setting, clock: OurSearch(setting, clock, variant)


def find_variant(name: str) -> Variant:
    """Ours: an algorithm, or SEARCHER+RULE; then @VIEW, the sampler's view, and /EPOCHS, the lowest rung."""
    whole, _, lowest = name.partition("/")
    pair, _, view = whole.partition("@")
    searcher, plus, rule = pair.partition("+")
    if not plus:
        algorithm = find_algorithm(pair)
        searcher, rule = algorithm.searcher, algorithm.fidelity
    find_searcher(searcher)
    make_rule(rule, epochs=27)
    settings = {"sampler_view": view} if view else {}
    check_settings(settings, searcher=searcher, fidelity=rule)
    return Variant(searcher=searcher, fidelity=rule, settings=settings, min_epochs=int(lowest) if lowest else None)
