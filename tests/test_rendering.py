"""One way from a conversation to tokens: templates that have no place for a system message, BOS, control tokens that words spell,
and every algorithm, evaluation and reward model reading the same ids."""

import shutil
from dataclasses import replace

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from medrl import lifecycle
from medrl.algos.base import Job
from medrl.algos.kto import exchanged
from medrl.algos.samples import as_tokens, whole_batches
from medrl.config.build import check
from medrl.errors import UserError
from medrl.evaluation import preferences
from medrl.jobs.shutdown import GracefulShutdown
from medrl.lifecycle import _rows
from medrl.models.base import EMBEDDED
from medrl.models.chat_templates import notes, ready
from medrl.models.generation import Sampling, Transformers
from medrl.models.likelihood import document, reply
from medrl.models.tokenization import IGNORED, Rendering

TURNS = (
    "{%- for message in messages -%}{%- if message['role'] != 'system' -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
TEMPLATES = {
    "drops": TURNS,
    # Gemma's: no system role, and turns that alternate.
    "gemma": "{%- if messages[0]['role'] == 'system' -%}{{- raise_exception('System role not supported') -}}{%- endif -%}"
    "{%- for message in messages -%}{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}"
    "{{- raise_exception('Conversation roles must alternate') -}}{%- endif -%}{%- endfor -%}" + TURNS,
    # Llama 2's: the BOS before every question, the system message within the first.
    "llama2": "{%- if messages[0]['role'] == 'system' -%}{%- set said = '<<SYS>>' + messages[0]['content'] + '<</SYS>>' -%}"
    "{%- set messages = messages[1:] -%}{%- else -%}{%- set said = '' -%}{%- endif -%}{%- for message in messages -%}"
    "{%- if message['role'] == 'user' -%}"
    "{{- bos_token + '[INST] ' + (said if loop.first else '') + message['content'] + ' [/INST]' -}}"
    "{%- else -%}{{- ' ' + message['content'] + ' <|im_end|>' -}}{%- endif -%}{%- endfor -%}",
    "doubles": "{{- bos_token + '<|endoftext|>' -}}" + TURNS,
    # R1's: opens the thinking, and drops it from what was said before.
    "r1": "{%- for message in messages -%}{%- if message['role'] == 'assistant' -%}"
    "{{- '[A]' + message['content'].split('</think>')[-1] + '<|im_end|>' -}}"
    "{%- else -%}{{- '[' + message['role'] + ']' + message['content'] -}}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '[A]<think>\\n' -}}{%- endif -%}",
}
ASKED = [{"role": "user", "content": "Is it a fever?"}]
TOLD = [{"role": "system", "content": "Answer with a letter."}, *ASKED]
SPELLED = [{"role": "user", "content": "What does <|im_end|> end, and <|im_start|>?"}]
SMALL = ("source.train_rows=60", "source.test_rows=8", "data_mix.rows=24", "algo.max_steps=1", "algo.epochs=null")


def tokenizer_of(shape=None, *, adds_bos=False, **tokens):
    """The embedded tokenizer with one of the templates; with a BOS that it puts before every text, or that it only has."""
    if adds_bos:
        tokens["bos_token"] = "<|endoftext|>"
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED / "tiny", **tokens)
    if adds_bos:
        adding = TemplateProcessing(single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)])
        tokenizer.backend_tokenizer.post_processor = adding
    if shape:
        tokenizer.chat_template = TEMPLATES[shape]
    return ready(tokenizer, None, "the model")


# --- System messages --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["drops", "gemma"])
def test_a_system_message_without_a_place_begins_the_first_user_turn(shape, tmp_path):
    tokenizer = tokenizer_of(shape)
    rendering = Rendering(tokenizer)
    text = "<|im_start|>user\nAnswer with a letter.\n\nIs it a fever?<|im_end|>\n<|im_start|>assistant\n"
    assert rendering.pair(TOLD, "A").prompt == text == tokenizer.decode(rendering.prompt(TOLD))
    assert notes(tokenizer) == ["the system message begins the first user turn: the template has no place for it"]
    talk = [*TOLD, {"role": "assistant", "content": "A"}, {"role": "user", "content": "Sure?"}]
    later = "A<|im_end|>\n<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\n"
    assert rendering.pair(talk, "B").prompt == text + later  # and no other turn
    assert rendering.pair(ASKED, "A").prompt == text.replace("Answer with a letter.\n\n", "")
    tokenizer.save_pretrained(tmp_path)  # whatever loads the trained model reads what it was trained on
    saved = AutoTokenizer.from_pretrained(tmp_path)
    assert saved.apply_chat_template(talk, add_generation_prompt=True)["input_ids"] == rendering.prompt(talk)
    assert ready(saved, None, "again").chat_template == tokenizer.chat_template


@pytest.mark.parametrize("shape", ["llama2", "r1", None])
def test_a_template_with_a_place_for_it_stays_as_it_is(shape):
    tokenizer = tokenizer_of(shape, bos_token="<|endoftext|>")
    assert tokenizer.chat_template == TEMPLATES.get(shape, AutoTokenizer.from_pretrained(EMBEDDED / "tiny").chat_template)
    assert not any("system" in note for note in notes(tokenizer))


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{- 'a constant' -}}", "loses the words of a conversation"),
        ("{{- raise_exception('tools only') -}}", r"refuses a plain question \(tools only\)"),
    ],
)
def test_a_template_that_nothing_mends_is_refused(template, said):
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED / "tiny")
    tokenizer.chat_template = template
    with pytest.raises(UserError, match=f"The chat template of org/name {said}.*write model.chat_format=chatml"):
        ready(tokenizer, None, "org/name")


def test_a_refused_conversation_is_named_in_one_sentence():
    with pytest.raises(UserError, match=r"refuses a conversation of the turns user, user \(Conversation roles must alternate\)"):
        Rendering(tokenizer_of("gemma")).prompt([*ASKED, *ASKED])


def test_the_plan_says_where_the_system_message_went_and_about_the_bos(compose, tmp_path, capsys):
    folder = tmp_path / "gemma"
    shutil.copytree(EMBEDDED / "tiny", folder)
    tokenizer = AutoTokenizer.from_pretrained(folder, bos_token="<|endoftext|>")
    tokenizer.chat_template = TEMPLATES["gemma"]
    tokenizer.save_pretrained(folder)
    words = (*SMALL[:3], "dry_run=true", "model=pretrained", "model.lora=null", "model.context_tokens=2048", f"runs={tmp_path}")
    found = lifecycle.run(compose([*words, f"model.weights={folder}"]))
    said = capsys.readouterr().out
    line = "template the system message begins the first user turn: the template has no place for it; no <|endoftext|> begins"
    assert len(found["template"]) == 2 and f"\n{line} a conversation\n" in said
    assert lifecycle.run(compose([*SMALL, "dry_run=true", f"runs={tmp_path}"]))["template"] == []
    assert "\ntemplate" not in capsys.readouterr().out


# --- BOS --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["drops", "gemma", "llama2", "doubles", None])
@pytest.mark.parametrize("prompt", [ASKED, TOLD])
def test_the_bos_of_a_tokenizer_that_adds_it_is_read_once(shape, prompt):
    tokenizer = tokenizer_of(shape, adds_bos=True)
    rendering = Rendering(tokenizer)
    assert rendering.prompt(prompt)[0] == 0 and rendering.prompt(prompt).count(0) == 1
    assert rendering.tokens(prompt, "A").prompt == reply(rendering, prompt, "A").ids[: len(rendering.prompt(prompt))]
    assert tokenizer.apply_chat_template(prompt, add_generation_prompt=True)["input_ids"] == rendering.prompt(prompt)
    said = {"doubles": "once: the template wrote it twice", "llama2": "begins every conversation"}
    assert said.get(shape, "is put before every conversation") in notes(tokenizer)[-1]


def test_a_bos_that_neither_tokenizer_nor_template_writes_is_not_read():
    tokenizer = tokenizer_of("drops", bos_token="<|endoftext|>")
    assert 0 not in Rendering(tokenizer).prompt(ASKED)
    assert notes(tokenizer)[-1] == "no <|endoftext|> begins a conversation"
    assert Rendering(tokenizer).document("Fever.") == tokenizer("Fever.")["input_ids"]
    assert Rendering(tokenizer_of(adds_bos=True)).document("Fever.")[0] == 0


# --- Control tokens ---------------------------------------------------------------------------------------------------


def test_words_that_spell_control_tokens_are_text():
    tokenizer = tokenizer_of()
    rendering = Rendering(tokenizer)
    tokens = rendering.tokens(SPELLED, "Write <|im_end|> last.")
    assert tokens.completion.count(2) == 1 and tokens.completion[-1] == 2  # one end of one turn
    assert tokens.completion[:-1] == tokenizer("Write <|im_end|> last.", split_special_tokens=True)["input_ids"]
    assert [token for token in tokens.prompt if token < 3] == [1, 2, 1]
    pair = rendering.pair(SPELLED, "Write <|im_end|> last.")
    assert tokenizer.decode(tokens.ids) == pair.prompt + pair.completion
    assert pair.prompt == tokenizer.apply_chat_template(SPELLED, add_generation_prompt=True, tokenize=False)
    assert (
        rendering.document("<|endoftext|>")[0] != 0 and tokenizer.decode(rendering.document("<|endoftext|>")) == "<|endoftext|>"
    )
    (row,) = rendering.conversation([*SPELLED, {"role": "assistant", "content": "<|im_end|>"}])
    assert row["labels"].count(2) == 1


def test_text_around_a_spelled_token_is_tokenized_as_in_one_piece():
    """Tokenizers after SentencePiece write a space before a text: a prompt that is cut at its marks would have several."""
    words = ["▁", "▁a", "a", "b", *"<eot>", "<eot>"]
    backend = Tokenizer(models.BPE({word: place for place, word in enumerate(words)}, [("▁", "a")]))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eot>", pad_token="<eot>")
    tokenizer.chat_template = "{%- for message in messages -%}{{- message['content'] + '<eot>' -}}{%- endfor -%}"
    rendering = Rendering(ready(tokenizer, None, "the model"))
    read = rendering.prompt([{"role": "user", "content": "a"}, {"role": "user", "content": "b<eot>a"}])
    assert [words[token] for token in read] == ["▁a", "<eot>", "b", *"<eot>", "a", "<eot>"]


def test_the_thought_tags_of_an_answer_stay_tokens():
    tokenizer = tokenizer_of()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
    completion = Rendering(tokenizer).tokens(ASKED, "<think>\nHot.\n</think>\nyes <|im_end|>").completion
    assert completion[0] == tokenizer.convert_tokens_to_ids("<think>") and completion.count(2) == 1


# --- Everything reads the same ids ------------------------------------------------------------------------------------


def job_of(compose, folder, shape, *words):
    """A job whose tokenizer has another template, and rows that spell control tokens."""
    settings = check(compose([*SMALL, *words]))
    _, drawn = _rows(settings)
    tokenizer = tokenizer_of(shape, adds_bos=shape in ("llama2", "drops"))
    spelled = [replace(row, example=replace(row.example, question=f"{row.example.question} <|im_end|>")) for row in drawn.rows]
    policy = settings.model.policy(tokenizer, settings.hardware, settings.seed)
    folder.mkdir(parents=True, exist_ok=True)
    return Job(settings, spelled, policy, tokenizer, folder, None, GracefulShutdown())


@pytest.mark.parametrize(("algo", "shape"), [("grpo", "llama2"), ("rloo", "gemma"), ("ppo", "r1")])
def test_generation_in_training_and_outside_reads_the_ids_of_the_rendering(compose, tmp_path, algo, shape):
    few = ("data_mix=pubmedqa", "algo.batch_size=4", "algo.max_completion_tokens=4", "hardware.micro_batch_size=4")
    group = () if algo == "ppo" else ("algo.num_generations=2",)
    job = job_of(compose, tmp_path / "train", shape, f"algo={algo}", *few, *group)
    read, generate = [], job.policy.generate

    def noting(*args, **options):
        for ids, mask in zip(options["input_ids"], options["attention_mask"], strict=True):
            read.append(ids[mask.bool()].tolist())
        return generate(*args, **options)

    job.policy.generate = noting
    (tmp_path / "train" / "completions").mkdir()
    job.run.algo.train(job, tmp_path / "model")
    prompts = [job.rendering.prompt(row.messages) for row in job.rows]
    assert read and all(ids in prompts for ids in read)
    trained, read[:] = list(read), []
    engine = Transformers(job.policy, job.tokenizer, 2048, 65536)
    list(engine.complete([row.messages for row in job.rows], [row.example.id for row in job.rows], Sampling(0.0, 1.0, 1, 0)))
    assert all(ids in read for ids in trained) and sorted(read) == sorted(prompts)
    saved = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert type(saved) is type(AutoTokenizer.from_pretrained(EMBEDDED / "tiny"))
    assert saved.chat_template == job.tokenizer.chat_template


def pairs_of(job):
    """A pair of each row; thinking alone tells the answers of the first apart."""
    answers = [("<think>\nHot.\n</think>\nyes", "<think>\nCold.\n</think>\nyes"), *(("yes <|im_end|>", "no"),) * 3]
    return [
        {"prompt": row.messages, "chosen": chosen, "rejected": rejected}
        for row, (chosen, rejected) in zip(job.rows, answers, strict=False)
    ]


@pytest.mark.parametrize("shape", ["gemma", "llama2", "r1", None])
def test_preference_trainers_read_the_ids_of_the_rendering(compose, tmp_path, shape):
    from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    from medrl.algos.orpo import _columns

    job = job_of(
        compose, tmp_path / "train", shape, "algo=dpo", "algo.prompts=8", "algo.batch_size=4", "hardware.micro_batch_size=4"
    )
    pairs = pairs_of(job)
    sides = [[job.rendering.tokens(pair["prompt"], pair[side]) for pair in pairs] for side in ("chosen", "rejected")]
    wanted = {(*tokens.ids,) for side in sides for tokens in side}
    assert len(wanted) == 8
    labelled = [(tokens, label) for side, label in zip(sides, (True, False), strict=True) for tokens in side]
    for kind, config, rows, names in (
        (DPOTrainer, DPOConfig, as_tokens(job, pairs), [("input_ids", "attention_mask", "completion_mask")]),
        (KTOTrainer, KTOConfig, exchanged(labelled, 4), [("input_ids", "attention_mask", "completion_mask")]),
        (
            ORPOTrainer,
            ORPOConfig,
            [_columns(row) for row in as_tokens(job, pairs)],
            [(f"{side}_input_ids", f"{side}_attention_mask", f"{side}_labels") for side in ("chosen", "rejected")],
        ),
    ):
        more = {"remove_unused_columns": False} if kind is ORPOTrainer else {}
        config = config(**job.run.algo.arguments(job), **more, max_length=2048 if more else None)
        trainer = job.run.algo.trainer(kind, config, job, rows)
        found = {}
        for batch in trainer.get_train_dataloader():
            for ids_of, attended_of, learned_of in names:
                for ids, attended, learned in zip(batch[ids_of], batch[attended_of], batch[learned_of], strict=True):
                    kept = attended.bool()
                    place = learned[kept] != IGNORED if learned_of.endswith("labels") else learned[kept].bool()
                    found[(*ids[kept].tolist(),)] = int(place.int().argmax())
        assert set(found) == wanted, kind
        for tokens in (*sides[0], *sides[1]):
            assert found[(*tokens.ids,)] == len(tokens.prompt), kind  # where the loss begins


def test_the_rows_of_preference_trainers_are_those_that_trl_makes_of_plain_text(compose, tmp_path):
    """Of words that spell no control token and a tokenizer without BOS, which TRL tokenizes as we do: the columns are its own."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    from medrl.algos.orpo import _columns

    job = job_of(
        compose, tmp_path / "train", None, "algo=dpo", "algo.prompts=8", "algo.batch_size=4", "hardware.micro_batch_size=4"
    )
    pairs = [{"prompt": ASKED, "chosen": f"yes {number}", "rejected": "no"} for number in range(7)]
    texts = [[job.rendering.pair(ASKED, pair[side]) for pair in pairs] for side in ("chosen", "rejected")]
    chosen, rejected = ([text.completion for text in side] for side in texts)
    prompts = [text.prompt for text in texts[0]]
    both = Dataset.from_dict({"prompt": prompts, "chosen": chosen, "rejected": rejected})
    one = Dataset.from_dict({"prompt": prompts, "completion": chosen, "label": [number % 2 == 0 for number in range(7)]})
    labelled = [(job.rendering.tokens(ASKED, pair["chosen"]), number % 2 == 0) for number, pair in enumerate(pairs)]
    for kind, config, texts, ours in (
        (DPOTrainer, DPOConfig, both, as_tokens(job, pairs)),
        (KTOTrainer, KTOConfig, one, exchanged(labelled, 4)),
        (ORPOTrainer, ORPOConfig, both, [_columns(row) for row in as_tokens(job, pairs)]),
    ):
        config = config(**job.run.algo.arguments(job), max_length=2048, remove_unused_columns=False)
        theirs = kind(model=job.policy, args=config, train_dataset=texts, processing_class=job.tokenizer).train_dataset
        assert len(ours) == len(theirs) == 7
        for row, same in zip(ours, theirs, strict=True):
            assert row == {name: same[name] for name in row}, kind
    filled = exchanged(whole_batches(labelled[:5], 4), 4)  # the fifth alone would be exchanged for itself
    assert len(filled) == 8 and all(row["completion_ids"] != row["KL_completion_ids"] for row in filled)


def test_a_pair_of_the_same_tokens_is_left_out_and_counted(compose, tmp_path, capsys):
    job = job_of(compose, tmp_path / "train", "r1", "algo=rm", "data_mix=medicalgpt_preference", "algo.batch_size=1")
    first, second, third = (
        replace(row, example=replace(row.example, gold=gold, rejected=rejected))
        for row, gold, rejected in zip(
            job.rows,
            ("<think>\nHot.\n</think>\nyes", "<think>\nHot.\n</think>\nyes", "no"),
            ("<think>\nCold.\n</think>\nyes", "Hot.\n</think>\nyes", "\n</think>\n\nno"),
            strict=False,
        )
    )
    job = replace(job, rows=[first, second, third])
    rows = job.run.algo._dataset(job)
    assert len(rows) == 1 and "rm: both answers of 2 of 3 pairs are the same tokens; they are left out" in capsys.readouterr().out
    assert "Hot." in job.tokenizer.decode(rows[0]["chosen_ids"]) and "Cold." in job.tokenizer.decode(rows[0]["rejected_ids"])
    dpo = check(compose([*SMALL, "algo=dpo", "data_mix=medicalgpt_preference", "algo.prompts=3", "algo.batch_size=2"])).algo
    pairs, figures = dpo.pairs(job, job.folder, job.rows, 0)
    assert len(pairs) == 1 and figures["same_tokens"] == 2 and "2 left out as the same tokens" in capsys.readouterr().out
    kto = check(compose([*SMALL, "algo=kto", "data_mix=medicalgpt_preference", "algo.prompts=3", "algo.batch_size=2"])).algo
    assert [label for _, label in sorted(kto.labelled(job), key=lambda each: each[1])] == [False, True]
    assert "2 pairs of the data set are left out, because both answers are the same tokens" in capsys.readouterr().out


def test_likelihoods_begin_where_the_prompt_ends_and_keep_the_thinking():
    tokenizer = tokenizer_of("r1")
    rendering = Rendering(tokenizer)
    for answer in ("No, wait a week.", "Yes.", "No.", "<think>\nHot.\n</think>\nyes"):
        passage, tokens = reply(rendering, ASKED, answer), rendering.tokens(ASKED, answer)
        assert passage.first == len(rendering.prompt(ASKED)) and passage.ids == tokens.ids
        scored = tokenizer.decode(passage.ids[passage.first :])
        assert scored == rendering.pair(ASKED, answer).completion and scored.endswith("<|im_end|>")
    one, other = (reply(rendering, ASKED, f"<think>\n{thought}.\n</think>\nyes").ids for thought in ("Hot", "Cold"))
    assert one != other  # which the template alone makes the same
    assert document(rendering, "Hot.").ids == [tokenizer.eos_token_id, *tokenizer("Hot.")["input_ids"]]


def test_held_out_pairs_are_read_as_the_reward_model_was_trained_on_them(compose, tmp_path):
    words = ("algo=rm", "data_mix=medicalgpt_preference", "algo.batch_size=1")
    job = job_of(compose, tmp_path / "train", "r1", *words)
    row, seen = job.rows[0], []

    def measure(groups, done):
        seen.extend(groups)
        yield {0: [1.0, 0.0]}

    list(preferences.lines(row.task, [row.example], "pairwise", measure, job.rendering, ()))
    (trained,) = job.run.algo._dataset(replace(job, rows=[row]))
    assert [passage.ids for passage in seen[0]] == [trained["chosen_ids"], trained["rejected_ids"]]


# --- What is learned of an answer without a thought -------------------------------------------------------------------


def test_an_empty_thought_is_read_and_not_learned():
    tokenizer = tokenizer_of("r1")
    rendering = Rendering(tokenizer)
    row = rendering.tokens(ASKED, "yes").labelled()
    assert tokenizer.decode(row["input_ids"]).endswith("<think>\n\n</think>\n\nyes<|im_end|>")
    assert tokenizer.decode([token for token in row["labels"] if token != IGNORED]) == "yes<|im_end|>"
    thought = rendering.tokens(ASKED, "<think>\nHot.\n</think>\nyes").labelled()
    assert tokenizer.decode([token for token in thought["labels"] if token != IGNORED]) == "Hot.\n</think>\nyes<|im_end|>"
    assert len(row["labels"]) == len(row["input_ids"])


def test_a_prompt_that_is_far_too_long_is_not_tokenized_whole(monkeypatch):
    rendering, seen = Rendering(tokenizer_of()), []
    counts = rendering._control.counts
    monkeypatch.setattr(rendering._control, "counts", lambda texts, most: seen.extend(map(len, texts)) or counts(texts, most))
    monkeypatch.setattr(rendering._control, "ids", None)
    assert rendering.prompt_lengths([[{"role": "user", "content": "word " * 100_000}]], 10)[0] > 20 and max(seen) == 200


@pytest.mark.parametrize("words", [{}, {"truncation": True, "max_length": 3, "padding": "max_length"}])
def test_prompts_are_counted_as_they_are_read(words):
    tokenizer = tokenizer_of()
    rendering = Rendering(tokenizer)
    tokenizer("a text that was cut or filled up before", **words)
    texts = (
        "a word",
        "word " * 30,
        "word " * 4000,
        "",
        "胸痛 ﬁ é\u0301",
        "says <|im_end|> and goes on",
        "long " * 25_000,
        "a word",
    )
    prompts = [[{"role": "user", "content": text}] for text in texts]
    lengths = [len(rendering.prompt(each)) for each in prompts]
    assert rendering.prompt_lengths(prompts, min(lengths) - 1)[:2] == lengths[:2]
    for prompt, length in zip(prompts, lengths, strict=True):
        assert (
            rendering.prompt_lengths([prompt], length - 1) == [length] and rendering.prompt_lengths([prompt], length)[0] <= length
        )
