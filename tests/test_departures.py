"""What papers say of each algorithm, and what a run says where it does otherwise."""

from dataclasses import replace

import pytest

from medrl.config import build
from medrl.config.options import group_options
from medrl.errors import ConfigError

SIZES_AND_RATES = {
    "learning_rate", "lr_scheduler_type", "warmup_ratio", "batch_size", "num_generations", "max_completion_tokens", "max_steps",
    "epochs", "num_mini_batches", "num_iterations", "prompts", "rounds", "temperature", "optimizer", "block_tokens",
}  # fmt: skip
"""What another model, another device and less time call for. All else is the algorithm: its loss, KL, scaling and clip."""
OTHERWISE = {("ppo", "tiny"): {"gae_lambda"}, ("rloo", "tiny"): {"beta"}}
"""What few steps of the embedded model call for: value heads learn nothing in them, a coin moves habits; docs/algorithms.md."""
PUBLISHED = sorted(set(group_options("algo")) - {"none"})


@pytest.mark.parametrize("model", ["tiny", "qwen2_5_0_5b_instruct"])
@pytest.mark.parametrize("algo", PUBLISHED)
def test_a_preset_is_the_algorithm_of_its_paper(compose, algo, model):
    mix = {"pt": "medicalgpt_pt", "rm": "medicalgpt_preference"}.get(algo, "pubmed70")
    needed = ["algo.teacher.weights=embedded:tiny"] if algo == "distillation" else []
    found = build.check(compose([f"algo={algo}", f"data_mix={mix}", f"model={model}", *needed])).algo
    assert found.published
    for paper in found.published:
        other = {name for name, value in paper.values.items() if getattr(found, name) != value}
        assert other <= SIZES_AND_RATES | OTHERWISE.get((algo, model), set()), (algo, other)
        assert "loss_type" in paper.values or algo not in ("grpo", "dr_grpo", "dapo", "gspo", "cispo")


def test_each_departure_is_named(compose):
    algo = build.check(compose(["algo=gspo", "model=qwen2_5_0_5b_instruct"])).algo
    assert algo.departures == ["Zheng et al. 2025 (arXiv 2507.18071): as published"]
    changed = replace(algo, scale_rewards="none", epsilon_high=None)
    assert changed.departures == [
        "Zheng et al. 2025 (arXiv 2507.18071): scale_rewards=none instead of group, epsilon_high=null instead of 0.0004"
    ]
    dapo = build.check(compose(["algo=dapo"])).algo
    assert "learning_rate=0.00015 instead of 1e-06" in dapo.departures[0]  # what is tuned for the embedded model, too
    assert dapo.departures[0].endswith("; " + dapo.published[0].otherwise[0])


def test_what_a_paper_is_said_to_do_is_checked(compose):
    tree = compose(["algo=gspo"])
    tree["algo"]["published"][0]["values"] |= {"epsilom": 1.0, "beta": "soft"}
    with pytest.raises(ConfigError) as caught:
        build.check(tree)
    found = {problem.key: problem.message for problem in caught.value.problems}
    assert "did you mean epsilon?" in found["algo.published[0].values.epsilom"]
    assert found["algo.published[0].values.beta"] == "is 'soft', should be a valid number"


def test_papers_are_no_part_of_what_is_learned(compose):
    algo = build.check(compose(["algo=gspo"])).algo
    assert replace(algo, published=()).identity() == algo.identity()
