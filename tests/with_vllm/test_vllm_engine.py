"""Generation outside training by real vLLM, on the embedded model and on a CPU: the same answers as transformers', up to ties."""

import inspect
import random
from dataclasses import replace
from functools import partial

import numpy
import pytest
import torch
from peft import LoraConfig, get_peft_model

from medrl import lifecycle
from medrl.config import build, compose
from medrl.data.prompts import messages
from medrl.evaluation import evaluate
from medrl.files import read_jsonl
from medrl.models import vllm_engine
from medrl.models.generation import Asked, Sampling, Transformers, sample

pytestmark = pytest.mark.slow
GREEDY, DRAWN = Sampling(0, 1.0, 48, 3), Sampling(1.0, 0.9, 48, 3)
TIE = 1e-3
"""Logits of float32 that are no further apart are a tie: the two engines add up in another order."""


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """A run on a CPU that asks vLLM, which users may not."""
    import vllm

    with pytest.MonkeyPatch.context() as patch:
        # A processor's generator of random numbers cannot be set back, as vLLM does after each part of a prompt but the last.
        patch.setattr(vllm, "LLM", partial(vllm.LLM, enable_chunked_prefill=False))
        words = ["algo=none", "data_mix=gsm8k", "source.test_rows=24", f"runs={tmp_path_factory.mktemp('runs')}"]
        run = compose.compose(words).run
        yield replace(run, hardware=replace(run.hardware, rollout="vllm"))
        vllm_engine.stop()


@pytest.fixture(scope="module")
def tokenizer(settings):
    return settings.model.tokenizer(lambda: ())


@pytest.fixture
def policy(settings, tokenizer):
    return settings.model.policy(tokenizer, settings.hardware, 0)


@pytest.fixture(scope="module")
def prompts(settings):
    return [messages(example, settings.data_mix.tasks["gsm8k"]) for example in evaluate.held_out(settings, "gsm8k")]


def both(settings, policy, tokenizer):
    """Our two engines for one policy."""
    context = settings.model.context_tokens
    return vllm_engine.Vllm(policy, tokenizer, context, settings.hardware), Transformers(policy, tokenizer, context, None)


def ids_of(engine, prompts, limit=48):
    return [Asked(engine.rendering.prompt(prompt), limit, str(place)) for place, prompt in enumerate(prompts)]


def whole(batches):
    return {position: made for batch in batches for position, made in batch.items()}


def first_apart(ours, theirs):
    return next(at for at in range(max(len(ours), len(theirs))) if ours[at : at + 1] != theirs[at : at + 1])


def ties(policy, asked, ours, theirs):
    """How many pairs of completions part, all of them where two tokens are as likely as each other."""
    parted = [row for row in range(len(asked)) if ours[row] != theirs[row]]
    for row in parted:
        at = first_apart(ours[row], theirs[row])
        with torch.no_grad():
            logits = policy(torch.tensor([[*asked[row].ids, *ours[row][:at]]])).logits[0, -1]
        assert abs(logits[ours[row][at]] - logits[theirs[row][at]]) < TIE, f"prompt {row}, token {at}"
    return len(parted)


def adapted(policy, seed):
    """The policy with an adapter that changes what it says."""
    torch.manual_seed(seed)
    found = get_peft_model(policy, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False))
    for name, parameter in found.named_parameters():
        if "lora_B" in name:
            parameter.data.mul_(0.1)
    return found.eval()


def test_greedy_answers_are_those_of_transformers(settings, policy, tokenizer, prompts):
    ours, theirs = both(settings, policy, tokenizer)
    asked = ids_of(ours, prompts)
    written, expected = ours.sample(asked, GREEDY), sample(policy, tokenizer, asked, GREEDY)
    assert ties(policy, asked, written, expected) <= 2
    assert len({tuple(ids) for ids in written}) > 6 and min(map(len, written)) < 48  # some end themselves
    positions = [at for at in range(len(prompts)) if written[at] == expected[at]]
    made = [whole(engine.complete(prompts, [*map(str, range(len(prompts)))], GREEDY)) for engine in (ours, theirs)]
    assert [made[0][at] for at in positions] == [made[1][at] for at in positions]


def test_one_engine_answers_with_the_weights_of_whoever_asks(settings, policy, tokenizer, prompts):
    ours, _ = both(settings, policy, tokenizer)
    asked = ids_of(ours, prompts)
    before = ours.sample(asked, GREEDY)
    engine = vllm_engine._started[0].llm
    trained = adapted(settings.model.policy(tokenizer, settings.hardware, 0), seed=1)
    after = both(settings, trained, tokenizer)[0].sample(asked, GREEDY)
    assert sum(a != b for a, b in zip(before, after, strict=True)) > 6
    assert ties(trained, asked, after, sample(trained, tokenizer, asked, GREEDY)) <= 2
    with torch.no_grad():  # as a step of PPO does
        for name, parameter in policy.named_parameters():
            if "mlp" in name:
                parameter.mul_(0.9)
    changed = ours.sample(asked, GREEDY)
    assert sum(a != b for a, b in zip(before, changed, strict=True)) > 6
    assert ties(policy, asked, changed, sample(policy, tokenizer, asked, GREEDY)) <= 2
    assert [each.llm for each in vllm_engine._started] == [engine]


def test_a_completion_depends_on_its_own_prompt_key_and_seed_alone(settings, policy, tokenizer, prompts):
    ours, _ = both(settings, policy, tokenizer)
    asked = [each._replace(key=f"{at}/{copy}") for at, each in enumerate(ids_of(ours, prompts[:6])) for copy in range(3)]
    together = ours.sample(asked, DRAWN)
    assert ours.sample(asked[::-1], DRAWN) == together[::-1]
    assert [ours.sample([each], DRAWN)[0] for each in asked[:4]] == together[:4]
    assert len({tuple(ids) for ids in together[:3]}) == 3  # three keys of one prompt
    assert ours.sample(asked, replace(DRAWN, seed=4)) != together
    cut = ours.sample([each._replace(limit=2 + at) for at, each in enumerate(asked)], DRAWN)
    assert cut == [ids[: 2 + at] for at, ids in enumerate(together)]


def test_draws_follow_the_distribution_of_the_model(settings, policy, tokenizer, prompts):
    ours, _ = both(settings, policy, tokenizer)
    (first,) = ids_of(ours, prompts[:1], limit=1)
    ids = [*first.ids, *ours.sample([first._replace(limit=7)], GREEDY)[0]]  # where several words are likely
    drawn = ours.sample([Asked(ids, 1, str(key)) for key in range(2000)], replace(DRAWN, temperature=2.0, top_p=1.0))
    with torch.no_grad():
        share = (policy(torch.tensor([ids])).logits[0, -1] / 2.0).softmax(-1)
    token = int(share.argmax())
    assert 0.02 < share[token] < 0.98
    counted = sum(made == [token] for made in drawn) / len(drawn)
    assert abs(counted - share[token]) < 4 * (share[token] * (1 - share[token]) / len(drawn)) ** 0.5


def test_what_is_done_is_not_asked_again_and_who_goes_away_leaves_nothing(settings, policy, tokenizer, prompts, monkeypatch):
    monkeypatch.setattr(vllm_engine, "WRITTEN_AT_ONCE", 4)
    ours, _ = both(settings, policy, tokenizer)
    keys, heard = [*map(str, range(len(prompts)))], []
    expected = whole(ours.complete(prompts, keys, DRAWN, tick=heard.append))
    assert sorted(expected) == [*range(len(prompts))] and max(heard) >= 4
    begun = ours.complete(prompts, keys, DRAWN)
    kept = next(begun)
    begun.close()
    assert not vllm_engine._started[0].llm.llm_engine.has_unfinished_requests()
    rest = whole(ours.complete(prompts, keys, DRAWN, done=set(kept)))
    assert set(rest) == set(expected) - set(kept) and kept | rest == expected


def test_a_prompt_without_room_is_answered_with_nothing(settings, policy, tokenizer, prompts):
    ours = vllm_engine.Vllm(policy, tokenizer, settings.model.context_tokens, settings.hardware)
    long = [{"role": "user", "content": "word " * 4000}]
    made = whole(ours.complete([long, prompts[0]], ["a", "b"], GREEDY))
    assert (made[0].tokens, made[0].finished, made[0].text) == (0, False, "") and made[1].tokens > 0


def test_random_states_are_those_of_before(settings, policy, tokenizer, prompts):
    vllm_engine.stop()
    ours, _ = both(settings, policy, tokenizer)
    random.seed(5), numpy.random.seed(5), torch.manual_seed(5)
    expected = random.random(), numpy.random.rand(), float(torch.rand(()))
    random.seed(5), numpy.random.seed(5), torch.manual_seed(5)
    ours.sample(ids_of(ours, prompts[:2]), GREEDY)  # draws of vLLM on processors take from the global state, too
    assert (random.random(), numpy.random.rand(), float(torch.rand(()))) == expected


def test_the_next_engine_records_no_graphs_in_the_pool_of_one_that_has_ended(settings, policy, tokenizer, prompts, monkeypatch):
    from vllm.platforms import current_platform, interface

    assert vars(interface.Platform)["_global_graph_pool"] is None  # where vLLM keeps it, from when a GPU asks for it
    ours, _ = both(settings, policy, tokenizer)
    ours.sample(ids_of(ours, prompts[:2]), GREEDY)
    monkeypatch.setattr(type(current_platform), "_global_graph_pool", object(), raising=False)
    vllm_engine.stop()
    assert current_platform._global_graph_pool is None


def test_a_run_says_which_engine_answered_and_mixes_no_two(settings, tmp_path):
    metrics, texts, names = {}, {}, {}
    for engine in ("vllm", "transformers"):
        tree = compose.tree(["algo=none", "data_mix=gsm8k", "source.test_rows=24", f"runs={tmp_path / engine}"])
        tree["hardware"]["rollout"] = engine
        metrics[engine] = lifecycle.run(tree, build.unchecked(tree))
        (folder,) = (tmp_path / engine).glob("none-*")
        (path,) = (folder / "eval").glob("*.jsonl")
        names[engine], texts[engine] = path.name, [line["text"] for line in read_jsonl(path)]
        assert metrics[engine]["eval"]["generation"]["engine"] == engine
    assert names["vllm"] != names["transformers"]  # an answer of the other engine is not taken for one of its own
    parted = sum(a != b for a, b in zip(*texts.values(), strict=True))
    assert parted <= 2
    if not parted:
        assert metrics["vllm"]["tasks"] == metrics["transformers"]["tasks"]
    assert not vllm_engine._started  # the run has ended


@pytest.mark.parametrize("algo", ["ppo", "grpo"])
def test_training_and_both_evaluations_share_one_engine(settings, tmp_path, monkeypatch, algo):
    vllm_engine.stop()
    started, start = [], vllm_engine._new
    monkeypatch.setattr(vllm_engine, "_new", lambda *given: started.append(given) or start(*given))
    words = [
        f"algo={algo}",
        "data_mix=gsm8k",
        "source.train_rows=80",
        "source.test_rows=4",
        "data_mix.rows=8",
        "algo.batch_size=8",
    ]
    words += ["algo.max_steps=1", "algo.max_completion_tokens=24", "algo.num_mini_batches=1", "eval.max_new_tokens=24"]
    tree = compose.tree([*words, f"runs={tmp_path}"])
    tree["hardware"]["rollout"] = "vllm"
    metrics = lifecycle.run(tree, build.unchecked(tree))
    assert metrics["train"]["steps"] == 1 and metrics["tasks"]["gsm8k"]["n"] == 4
    assert len(started) == 1 and not vllm_engine._started


def test_an_engine_for_shorter_sequences_or_with_less_memory_is_not_taken(settings, policy, monkeypatch):
    vllm_engine.stop()
    monkeypatch.setattr(vllm_engine, "_new", lambda *_: object())
    monkeypatch.setattr(vllm_engine, "stop", vllm_engine._started.clear)
    started = partial(vllm_engine.engine_for, policy, settings.hardware)
    one = started(512, 100)
    assert started(256, 100) is one
    for tokens, size in ((513, 100), (512, 99), (512, 101)):
        one = started(512, 100)
        assert started(tokens, size) is not one
    vllm_engine.stop()


def test_an_engine_falls_asleep_while_other_processes_take_memory(settings, policy, monkeypatch):
    """Six runs on one GPU: one of them ended so. What vLLM does after it has given its memory back is no more than to say so."""
    from vllm.v1.worker import cpu_worker, gpu_worker

    told = inspect.getsource(gpu_worker.Worker.sleep)
    assert told.index(".suspend(level)") < told.index(f'"{vllm_engine.OTHERS_TOOK_MEMORY}"') < told.index("logger.info")
    said = [vllm_engine.OTHERS_TOOK_MEMORY]

    def fails(_worker, level):
        raise AssertionError(said[-1])

    monkeypatch.setattr(cpu_worker.CPUWorker, "sleep", fails)
    vllm_engine.stop()
    try:
        llm = vllm_engine.engine_for(policy, settings.hardware, settings.model.context_tokens, 0)
        llm.sleep(level=2)
        assert llm.llm_engine.engine_core.engine_core.model_executor.is_sleeping
        llm.wake_up()
        said.append("another one")
        with pytest.raises(AssertionError, match="another one"):
            llm.sleep(level=2)
        llm.wake_up()
    finally:
        vllm_engine.stop()
