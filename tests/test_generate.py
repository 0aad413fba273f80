"""Generation outside TRL, on the embedded model itself: an answer depends on its own prompt, seed and key alone."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from medrl.config import build
from medrl.evaluation import evaluate
from medrl.files import read_jsonl
from medrl.grading.answers import opening
from medrl.models.base import EMBEDDED, trained
from medrl.models.chat_templates import ready
from medrl.models.generation import (
    ASKED,
    IDS,
    NEUTRAL,
    Asked,
    Generated,
    Sampling,
    Transformers,
    fitting_tokens,
    sample,
)

ASSISTANT = '{%- if add_generation_prompt -%}{{- "<|im_start|>assistant\\n'
PROMPTS = [[{"role": "user", "content": f"Ben has {boxes} boxes with 12 eggs in each. How many eggs?"}] for boxes in range(2, 11)]
KEYS = [str(place) for place in range(len(PROMPTS))]


@pytest.fixture(scope="module")
def policy():
    return AutoModelForCausalLM.from_pretrained(EMBEDDED / "tiny")


def tokenizer_that_opens(text):
    """The embedded tokenizer with a template that writes the beginning of every completion, as DeepSeek-R1's does."""
    tokenizer = ready(AutoTokenizer.from_pretrained(EMBEDDED / "tiny"), None, "tiny")
    assert ASSISTANT in tokenizer.chat_template
    tokenizer.chat_template = tokenizer.chat_template.replace(ASSISTANT, ASSISTANT + text)
    return tokenizer


@pytest.mark.parametrize(
    ("written", "opened"),
    [
        ("", ""),
        ("<think>\\n", "<think>\n"),  # DeepSeek-R1
        ("<think>", "<think>"),
        ("<think>\\n\\n</think>\\n\\n", ""),  # Qwen3 told not to think: the thinking is over before the model begins
    ],
)
def test_what_the_template_opened_is_found(written, opened):
    assert opening(tokenizer_that_opens(written)) == opened


def test_what_the_template_opened_counts_as_written(policy):
    sampling = Sampling(0.0, 1.0, 8, 0)
    plain, opened = (
        next(Transformers(policy, tokenizer_that_opens(text), 2048, 65536).complete(PROMPTS[:1], KEYS[:1], sampling))[0]
        for text in ("", "<think>\\n")
    )
    assert opened.text.startswith("<think>\n") and not plain.text.startswith("<think>")
    assert opened.tokens == 8 and not opened.finished  # the model wrote eight, whatever stood before them


def merged(batches):
    return {position: made for batch in batches for position, made in batch.items()}


@pytest.mark.parametrize("sampling", [Sampling(0.0, 1.0, 24, 3), Sampling(1.0, 1.0, 24, 3), Sampling(0.7, 0.9, 24, 3)])
def test_an_answer_does_not_depend_on_its_batch(policy, sampling):
    whole, small, alone = (
        merged(Transformers(policy, tokenizer_that_opens(""), 2048, budget).complete(PROMPTS, KEYS, sampling))
        for budget in (65536, 200, 1)
    )
    assert sorted(whole) == list(range(len(PROMPTS))) and whole == small == alone
    other_way = Transformers(policy, tokenizer_that_opens(""), 2048, 200).complete(PROMPTS[::-1], KEYS[::-1], sampling)
    backwards = merged(other_way)
    assert [backwards[8 - place] for place in range(9)] == [whole[place] for place in range(9)]


def test_samples_of_a_prompt_are_drawn_by_key_and_seed(policy):
    engine = Transformers(policy, tokenizer_that_opens(""), 2048, 65536)
    drawn = [merged(engine.complete(PROMPTS[:1] * 4, "aabc", Sampling(3.0, 1.0, 24, seed))) for seed in (1, 2)]
    assert drawn[0][0] == drawn[0][1] and len({made.text for made in drawn[0].values()}) == 3
    assert drawn[0] != drawn[1]


def test_draws_follow_the_distribution(policy):
    """The first token of 4,000 samples, against the model's own probabilities within the nucleus."""
    import torch

    tokenizer, temperature, top_p = tokenizer_that_opens(""), 4.0, 0.5
    prompt = Transformers(policy, tokenizer, 2048, None).rendering.prompt(PROMPTS[0])[:8]
    drawn = sample(policy, tokenizer, [Asked(prompt, 1, str(key)) for key in range(4000)], Sampling(temperature, top_p, 1, 0))
    with torch.no_grad():
        logits = policy(torch.tensor([prompt])).logits[0, -1] / temperature
    ordered, places = logits.softmax(-1).sort(descending=True)
    kept = places[: int((ordered.cumsum(-1) < top_p).sum()) + 1]
    expected = logits.softmax(-1)[kept] / logits.softmax(-1)[kept].sum()
    shares = torch.tensor([sum(ids == [token] for ids in drawn) / 4000 for token in kept.tolist()])
    assert len(kept) > 1 and shares.sum() == pytest.approx(1)
    assert (shares - expected).abs().max() < 0.03  # four standard errors of a half


def test_batch_mates_do_not_shorten_an_answer(policy):
    """Each has the room that its own prompt leaves, also beside one that leaves little."""
    long = [{"role": "user", "content": "word " * 150}]
    engine = Transformers(policy, tokenizer_that_opens(""), 2048, 65536)
    length = len(engine.rendering.prompt(long))
    engine.context_tokens = length + 3
    sampling = Sampling(0.0, 1.0, 24, 0)
    alone = merged(engine.complete(PROMPTS[:2], KEYS, sampling))
    beside = merged(engine.complete([*PROMPTS[:2], long], KEYS, sampling))
    assert {place: beside[place] for place in (0, 1)} == alone and alone[0].tokens > 3
    assert beside[2].tokens <= 3


def test_what_is_done_is_not_asked_again(policy):
    engine = Transformers(policy, tokenizer_that_opens(""), 2048, 150)  # a budget of a few prompts
    sampling = Sampling(1.0, 1.0, 12, 3)
    whole = merged(engine.complete(PROMPTS, KEYS, sampling))
    rest = merged(engine.complete(PROMPTS, KEYS, sampling, {0, 4, 5}))
    assert rest == {position: made for position, made in whole.items() if position not in {0, 4, 5}}
    assert not list(engine.complete(PROMPTS, KEYS, sampling, set(whole)))


def test_a_prompt_without_room_is_answered_with_nothing(policy):
    engine = Transformers(policy, tokenizer_that_opens(""), 8, 65536)
    assert list(engine.complete(PROMPTS[:2], KEYS[:2], Sampling(0.0, 1.0, 8, 0))) == [
        dict.fromkeys((0, 1), Generated("", 0, False))
    ]
    assert not list(engine.complete(PROMPTS[:2], KEYS[:2], Sampling(0.0, 1.0, 8, 0), {0, 1}))


NO_DECODING = frozenset(
    {
        "max_length", "use_cache", "cache_implementation", "cache_config", "max_cache_len", "output_attentions",
        "output_hidden_states", "output_scores", "output_logits", "return_dict_in_generate", "is_assistant",
        "num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold", "max_matching_ngram_size",
        "assistant_early_exit", "assistant_lookbehind", "target_lookbehind", "assistant_ensemble_weight", "compile_config",
        "disable_compile", "continuous_batching_config", "low_memory", "prefill_chunk_size", "_commit_hash",
        "_from_model_config", "transformers_version",
    }
)  # fmt: skip
"""Fields that change no completion here: of caches, of outputs, of an assistant model; ``max_length`` yields to the limit of
new tokens."""


def test_every_field_of_transformers_is_decided():
    """A new one is put where it belongs: `NEUTRAL` where it can change a completion, `NO_DECODING` where it cannot."""
    lists = [set(NEUTRAL), set(ASKED), set(IDS), set(NO_DECODING)]
    assert set.union(*lists) == set(vars(GenerationConfig())) and sum(map(len, lists)) == len(set.union(*lists))


OWN = {
    "repetition_penalty": 1.05, "no_repeat_ngram_size": 3, "suppress_tokens": [*range(100, 300)], "min_new_tokens": 60,
    "begin_suppress_tokens": [*range(3, 200)], "bad_words_ids": [[35]], "typical_p": 0.5, "min_p": 0.9, "temperature": 7.0,
    "do_sample": True, "exponential_decay_length_penalty": [1, 2.0], "num_beams": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def opinionated(tmp_path_factory):
    """A copy of the embedded model with a decoding of its own."""
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    shutil.copytree(EMBEDDED / "tiny", folder)
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | OWN))
    return folder


def asked(compose, folder, out, *words):
    """Lines of an evaluation of the model in a folder."""
    settings = build.check(compose(["algo=none", "data_mix=gsm8k", "eval.limit=12", "eval.max_new_tokens=64", *words]))
    model = build.build(compose(["model=qwen2_5_0_5b_instruct", f"model.weights={folder}", "model.lora=null"]))["model"]
    tokenizer = model.tokenizer(lambda: ())
    policy = model.policy(tokenizer, settings.hardware, 0)
    evaluate.answer_tasks(settings, "base", policy, tokenizer, out)
    (path,) = out.glob("*.jsonl")
    return [line["text"] for line in read_jsonl(path)], policy, tokenizer


@pytest.mark.parametrize("words", [(), ("eval.temperature=1.0", "eval.samples=2")])
def test_keys_of_a_model_folder_change_no_answer(compose, opinionated, tmp_path, words):
    own, policy, tokenizer = asked(compose, opinionated, tmp_path / "own", "hardware=cpu", *words)
    plain, *_ = asked(compose, EMBEDDED / "tiny", tmp_path / "plain", "hardware=cpu", *words)
    assert own == plain and len(set(own)) > 3
    written = policy.generation_config.to_diff_dict()
    assert {key for key in written if key != "transformers_version"} <= {*IDS, "_from_model_config"}
    assert policy.generation_config.eos_token_id == [tokenizer.eos_token_id]


def test_a_trained_folder_is_read_without_its_decoding(compose, opinionated):
    settings = build.check(compose(["algo=none", "data_mix=gsm8k", "hardware=cpu"]))
    policy, _ = trained(settings.model, settings.hardware, 0, opinionated)
    assert not set(OWN) & set(policy.generation_config.to_diff_dict())


@pytest.mark.parametrize(("free", "expected"), [(140, 262144), (60, 262144), (40, 131072), (12, 65536), (0.1, 16384)])
def test_batches_follow_the_card_and_not_every_byte_that_another_process_takes(monkeypatch, free, expected):
    shape = SimpleNamespace(
        num_hidden_layers=24,
        hidden_size=896,
        num_attention_heads=14,
        num_key_value_heads=2,
        intermediate_size=4864,
        vocab_size=151936,
    )
    policy = SimpleNamespace(device=torch.device("cuda"), config=SimpleNamespace(get_text_config=lambda: shape))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(free * 2**30), 140 * 2**30))
    assert fitting_tokens(policy) == expected
