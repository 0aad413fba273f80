"""Several nodes: for whatever divides a batch they are as good as several GPUs of one node, with every algorithm."""

import pytest

from medrl.config import build
from medrl.config.frozen import root
from medrl.errors import ConfigError

ALGOS = sorted(path.stem for path in (root("conf") / "algo").glob("[!_]*.yaml"))
MIXES = {"pt": "medicalgpt_pt", "rm": "medicalgpt_preference", "sft": "medical_o1_sft"}
NODES = ("hardware.nodes=2", "hardware.rendezvous=node0:29500")


def mistakes(compose, algo, *words):
    """Of a configuration, by key; none where it is accepted."""
    try:
        needed = ["algo.teacher.weights=embedded:tiny"] if algo == "distillation" else []
        build.check(compose([f"algo={algo}", f"data_mix={MIXES.get(algo, 'pubmed70')}", *needed, *words]))
    except ConfigError as error:
        return {problem.key: problem.message for problem in error.problems}
    return {}


@pytest.mark.parametrize("algo", ALGOS)
def test_every_algorithm_runs_on_two_nodes(compose, algo):
    assert mistakes(compose, algo, *NODES) == {}


@pytest.mark.parametrize("batch", [1, 24])
@pytest.mark.parametrize("algo", [name for name in ALGOS if name != "none"])
def test_two_nodes_divide_a_batch_as_two_gpus_do(compose, algo, batch):
    sizes = (f"algo.batch_size={batch}", *(["algo.num_mini_batches=1", "algo.num_generations=8"] if algo == "dapo" else ()))
    assert mistakes(compose, algo, *sizes, *NODES) == mistakes(compose, algo, *sizes, "hardware.gpus=2")


def test_what_two_nodes_leave_of_a_batch_is_told(compose):
    assert "does not divide among 2" in mistakes(compose, "kto", "algo.batch_size=1", *NODES)["algo.batch_size"]
    assert "leaves one completion" in mistakes(compose, "kto", "algo.batch_size=2", *NODES)["algo.batch_size"]
    halves = ("algo.batch_size=24", "algo.num_mini_batches=1", "algo.num_generations=8")
    assert "share of 12 completions" in mistakes(compose, "dapo", *halves, *NODES)["algo.dynamic_sampling_rounds"]
