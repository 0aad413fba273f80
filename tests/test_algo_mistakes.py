"""Mistakes in what an algorithm, its batch and its hardware are told: each is named before anything loads."""

import pytest

NOT_ALONE = "leaves one completion to a micro-batch"
MISTAKES = [
    # batches
    ("algo.batch_size=20 algo.num_generations=8", "algo.batch_size", "20 does not divide by num_generations=8; write 16 or 24"),
    ("algo.batch_size=4 algo.num_generations=8", "algo.batch_size", "4 does not divide by num_generations=8; write 8"),
    ("algo=sft algo.batch_size=10 hardware.gpus=4", "algo.batch_size", "10 does not divide among 4 GPUs; write 8 or 12"),
    (
        "algo.batch_size=48 algo.num_generations=6 hardware.gpus=5",
        "algo.batch_size",
        "48 does not divide among 5 GPUs; write 30 or 60",
    ),
    ("algo=sft algo.batch_size=8 data_mix.rows=7", "algo.batch_size", "takes 8 rows a step, and there are 7"),
    (
        "algo.batch_size=64 algo.num_generations=8 data_mix.rows=7",
        "algo.batch_size",
        "takes 8 rows a step, and there are 7",
    ),
    ("algo=dpo algo.batch_size=16 algo.prompts=15", "algo.batch_size", "takes 16 rows a step, and there are 15"),
    ("algo.num_mini_batches=16 data_mix.rows=100", "algo.batch_size", "completions of 128 prompts"),
    ("algo=kto algo.batch_size=1", "algo.batch_size", NOT_ALONE),
    ("algo=kto hardware.micro_batch_size=1", "algo.batch_size", NOT_ALONE),
    # completions
    ("algo=grpo algo.max_completion_tokens=1500", "algo.max_completion_tokens", "are more than the model's context of 2048"),
    # options of one algorithm
    ("algo.loss_type=cispo", "algo.epsilon_high", "caps the probability ratio itself"),
    ("algo=cispo algo.epsilon_high=0.28", "algo.epsilon_high", "is 0.28"),
    ("algo=dapo algo.scale_rewards=batch", "algo.dynamic_sampling_rounds", "divided by another number"),
    (
        "algo=dapo algo.batch_size=24 algo.num_mini_batches=1 hardware.gpus=2",
        "algo.dynamic_sampling_rounds",
        "share of 12",
    ),
    ("algo=rloo algo.reward_clip=[1.0,-1.0]", "algo.reward_clip", "lower number first"),
    ("algo=kto data_mix=medical_o1_sft", "algo.desirable_reward", "nothing grades the answers to medical_o1_sft"),
    ("algo=rejection_sampling data_mix=medical_o1_sft", "algo.desirable_reward", "nothing grades the answers to medical_o1_sft"),
    ("algo=orpo algo.prompts=5000", "algo.prompts", "the mix draws data_mix.rows=2000"),
    ("algo=iterative_dpo algo.rounds=0", "algo.rounds", "greater than 0"),
    # processes
    ("hardware.node_rank=1", "hardware.node_rank", "nodes=1 are numbered from 0"),
    ("hardware.nodes=2", "hardware.rendezvous", "several nodes meet at node 0's HOST:PORT"),
    ("hardware.nodes=2 hardware.rendezvous=node0", "hardware.rendezvous", "HOST:PORT"),
    ("hardware.sharding=fsdp", "hardware.sharding", "divides among processes, and there is one"),
    ("hardware.sharding=zero2 hardware.gpus=2", "hardware.sharding", "needs GPUs"),
    ("algo=ppo hardware.gpus=2 hardware.sharding=fsdp", "algo", "handles weights whole; write hardware.sharding=none"),
    ("algo=iterative_dpo hardware.gpus=2 hardware.sharding=fsdp", "algo", "handles weights whole"),
]


@pytest.mark.parametrize(("overrides", "key", "message"), MISTAKES)
def test_a_mistake_is_named_before_anything_loads(mistakes, overrides, key, message):
    caught = mistakes(*overrides.split())
    assert any(problem.key == key and message in problem.message for problem in caught.problems), caught
