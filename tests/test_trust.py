"""Folders of others: no code of theirs runs, their templates end, and what does not belong together is refused."""

import inspect
import json
import os
import pickle
import random
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from jinja2.sandbox import ImmutableSandboxedEnvironment
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import chat_template_utils
from transformers.utils.chat_template_utils import _compile_jinja_template, render_jinja_template

from medrl.config import build, frozen, identity
from medrl.errors import UserError
from medrl.evaluation import answerer
from medrl.jobs import chain
from medrl.models import base, from_run, loading, template_sandbox
from medrl.models.base import EMBEDDED
from medrl.models.template_sandbox import TemplateRefused, render, render_all
from medrl.rewards import reward_model

CPU = SimpleNamespace(device="cpu", precision="fp32")
TINY = EMBEDDED / "tiny"
ASKED = [{"role": "user", "content": "chest pain"}]


@pytest.fixture
def folder(tmp_path):
    """A copy of the embedded model."""
    return Path(shutil.copytree(TINY, tmp_path / "folder"))


@pytest.fixture
def loaded(compose):
    """What a folder that a user names becomes: the model's object, tokenizer and policy."""
    node = compose(["model=pretrained", "model.lora=null", "model.context_tokens=512", "model.weights=x"])["model"]

    def load(folder, **options):
        model = build.build({**node, "weights": str(folder), **options})
        if said := [problem.message for problem in model.problems()]:
            raise UserError(said[0])
        tokenizer = model.tokenizer(list)
        return model, tokenizer, model.policy(tokenizer, CPU, 0)

    return load


def declare(folder, file="config.json", **values):
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


# --- Templates --------------------------------------------------------------------------------------------------------

HOSTILE = {
    "loops": ("{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}", "more than 0.3 seconds"),
    "loops without calls": (
        "{% set r = range(100000) %}{% for a in r %}{% for b in r %}{% endfor %}{% endfor %}", "more than 0.3 seconds",
    ),
    "one long step": ("{{ (7 ** 9999999) % 10 }}", "more than 0.3 seconds"),
    "memory": ("{% set s = 'x' * 10 ** 6 %}{{ s.replace('', s) | length }}", "bytes of memory"),
    "length": ("{{ 'x' * 2000000 }}", "writes 2,000,000 characters"),
    "source": ("x" * 1_000_001, "1,000,001 characters"),
    "a way out": ("{{ ().__class__.__mro__[1].__subclasses__() }}", "unsafe"),
    "recursion": ("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "recursion"),
    "depth": ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "recursion"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_a_template_ends_within_limits(monkeypatch, case):
    monkeypatch.setattr(template_sandbox, "SECONDS", 0.3)
    monkeypatch.setattr(template_sandbox, "_worker", template_sandbox._Worker())
    source, said = HOSTILE[case]
    begun = time.monotonic()
    with pytest.raises(TemplateRefused, match=said):
        render(source, ASKED)
    assert time.monotonic() - begun < 30
    assert render("{{ messages[0].content }}{{ x }}", ASKED, x="!") == "chest pain!"  # the next one is not touched by it


@pytest.mark.parametrize(("spoken", "said"), [("raise", "it is refused"), ("loop", "takes more than")])
def test_of_many_conversations_the_one_that_is_refused_is_known(monkeypatch, spoken, said):
    monkeypatch.setattr(template_sandbox, "SECONDS", 0.3)
    monkeypatch.setattr(template_sandbox, "_worker", template_sandbox._Worker())
    source = (
        "{% set word = messages[0].content %}{% if word == 'raise' %}{{ raise_exception('it is refused') }}{% endif %}"
        "{% if word == 'loop' %}{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}{% endif %}"
        "{{ word }}"
    )
    words = [[{"role": "user", "content": word}] for word in ("a", "b", spoken, "c", spoken)]
    with pytest.raises(TemplateRefused, match=said) as refused:
        render_all(source, words)
    assert refused.value.place == 2
    assert render_all(source, words[:2]) == ["a", "b"] and render_all(source, []) == []  # nothing is left of the answers before


TOLD = [{"role": "system", "content": "Briefly."}, *ASKED, {"role": "assistant", "content": 'It <may> be "angina".'}]
SHAPES = {
    "embedded": (TINY / "chat_template.jinja").read_text(),
    "whitespace": "  {% if true %}\n  {{ messages[0].content }}\n  {% endif %}\n end\n",
    "generation": "{% for m in messages %}{% set k = loop.index %}{% if m.role == 'assistant' %}{% generation %}{{ k }}"
    "{{ m.content }}{{ loop.index }}{% set k = 9 %}{% endgeneration %}{{ k }}{% endif %}{% endfor %}",
    "loops": "{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}{{ m.content }}{% break %}{% endfor %}",
    "json": "{{ messages | tojson }}{{ messages[-1] | tojson(indent=2) }}{{ {'b': 'é', 'a': 1} | tojson(true, sort_keys=true) }}"
    "{{ [1, 2] | tojson(separators=(',', ';')) }}",
    "time": "{{ strftime_now('%Y') }}",
    "nothing": "{{ tools is none }}{{ tools is defined }}{{ documents is none }}{{ x is defined }}{{ y is defined }}{{ x }}"
    "{{ y }}",
    "python": "{{ messages[0].content.split('e')[-1].strip() }}{% set n = namespace(a=1) %}{% set n.a = 2 %}{{ n.a }}"
    "{% macro f(a) %}<{{ a }}>{% endmacro %}{{ f(messages[0]['content']) }}{{ messages[1:] | map(attribute='role') | list }}",
    "no change": "{{ messages.append(1) }}",
    "refuses": "{{ raise_exception('it is refused') }}",
    "breaks out": "{% for m in messages %}{% generation %}{% break %}{% endgeneration %}{% endfor %}",
    "unfinished": "{% generation %}",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_templates_render_as_transformers_renders_them(shape):
    """The sandbox is ours, and transformers' is what other programs read a model through."""
    values = {"x": "<|im_end|>", "add_generation_prompt": True}
    for talk in (ASKED, TOLD):
        try:
            wanted = render_jinja_template([talk], chat_template=SHAPES[shape], **values)[0][0]
        except Exception as error:
            with pytest.raises(TemplateRefused) as refused:
                render(SHAPES[shape], talk, **values)
            assert str(refused.value) == str(error).strip().splitlines()[0]
        else:
            assert render(SHAPES[shape], talk, **values) == wanted


def test_the_sandbox_offers_what_transformers_offers():
    """What a new transformers adds to its own, or takes out of it, shows here."""
    ours, theirs = template_sandbox.environment(), _compile_jinja_template("").environment
    assert type(ours) is type(theirs) is ImmutableSandboxedEnvironment
    for kind in ("globals", "filters", "tests"):
        assert set(getattr(ours, kind)) == set(getattr(theirs, kind))
        own = [{n for n, made in getattr(each, kind).items() if inspect.getmodule(made) is module}
               for each, module in ((ours, template_sandbox), (theirs, chat_template_utils))]  # fmt: skip
        assert own[0] == own[1] == {"globals": {"raise_exception", "strftime_now"}, "filters": {"tojson"}, "tests": set()}[kind]
    assert _tags(ours) == _tags(theirs) == {"generation", "break", "continue"}
    for option in ("trim_blocks", "lstrip_blocks", "keep_trailing_newline", "autoescape", "undefined", "finalize"):
        assert getattr(ours, option) == getattr(theirs, option)


def _tags(environment):
    return {tag for extension in environment.extensions.values() for tag in extension.tags}


def test_the_process_that_renders_ends_with_its_parent(tmp_path):
    child = os.fork()
    if not child:
        template_sandbox._worker = template_sandbox._Worker()
        render("x", ASKED)
        (tmp_path / "pid").write_text(str(template_sandbox._worker.pid))
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    worker, deadline = int((tmp_path / "pid").read_text()), time.monotonic() + 20
    while Path(f"/proc/{worker}").exists() and "Z" not in Path(f"/proc/{worker}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_folder_whose_template_does_not_end_is_refused(folder, loaded, monkeypatch):
    monkeypatch.setattr(template_sandbox, "SECONDS", 0.3)
    monkeypatch.setattr(template_sandbox, "_worker", template_sandbox._Worker())
    (folder / "chat_template.jinja").write_text(HOSTILE["loops"][0])
    with pytest.raises(UserError, match=r"refuses a plain question \(it takes more than .*model\.chat_format=chatml"):
        loaded(folder)


# --- Code -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def foreign(folder, compose, tmp_path):
    """A finished run of somebody else that says that its code may run; the code leaves a mark."""
    run = tmp_path / "foreign"
    run.mkdir()
    folder.rename(run / "model")
    declare(run / "model", auto_map={"AutoConfig": "code.Config"})
    mark = tmp_path / "MARK"
    code = f"import pathlib; pathlib.Path({str(mark)!r}).touch()\nfrom transformers import Qwen2Config as Config\n"
    (run / "model" / "code.py").write_text(code)
    tree = compose(["algo=sft", "data_mix=gsm8k"])
    frozen.freeze(tree | {"model": tree["model"] | {"trust_remote_code": True}}, run)
    for name in ("provenance.json", "metrics.json"):
        (run / name).write_text('{"run_id": "12345678"}')
    return SimpleNamespace(run=run, mark=mark, tree=tree)


def test_a_run_folder_is_not_asked_whether_its_code_may_run(foreign, compose):
    model = build.build(compose(["model=from_run", f"model.run={foreign.run}"])["model"])
    model.policy(model.tokenizer(list), CPU, 0)
    settings = answerer.opened(str(foreign.run), [], None).settings
    base.trained(settings.model, CPU, 0, foreign.run / "model")
    assert not foreign.mark.exists()
    assert model._before().trust_remote_code is False
    assert answerer.opened(str(foreign.run), [frozen.TRUSTING], None).settings.model.trust_remote_code is True


def test_code_that_is_trusted_is_part_of_the_fingerprint(foreign, compose):
    model = build.build(compose(["model=from_run", f"model.run={foreign.run}", frozen.TRUSTING])["model"])
    before = model.fingerprint()
    assert before[f"code of {foreign.run / 'model'}"]
    (foreign.run / "model" / "below").mkdir()
    (foreign.run / "model" / "below" / "more.py").write_text("")
    assert model.fingerprint() != before


def test_code_of_a_tokenizer_is_recorded_too(folder, compose):
    declare(folder, "tokenizer_config.json", auto_map={"AutoTokenizer": [None, "code.Tokenizer"]})
    (folder / "code.py").write_text("")
    model = build.build(compose(["model=pretrained", f"model.weights={folder}", frozen.TRUSTING])["model"])
    assert set(model.fingerprint()) == {f"code of {folder}"}


def test_a_chain_hands_on_what_its_command_line_trusts(foreign):
    stage = SimpleNamespace(init_from="sft", reward_model_from=None)
    trusted = {**foreign.tree, "model": foreign.tree["model"] | {"trust_remote_code": True}}
    for tree, words in ((foreign.tree, []), (trusted, [frozen.TRUSTING])):
        found = {"sft": SimpleNamespace(folder=foreign.run, tree=tree)}
        assert [*chain._links(stage, found)][2:] == words


def test_a_pickle_is_not_executed(folder, loaded, tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "MARK",))

    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UserError, match=f"^{folder} holds no model"):
        loaded(folder)
    assert not (tmp_path / "MARK").exists()


# --- Weights and tokenizer --------------------------------------------------------------------------------------------


def another_tokenizer(folder):
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    tokenizer.train_new_from_iterator(["fever and cough"] * 9, 300).save_pretrained(folder)


def with_weights(change):
    def changed(folder):
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors", {"format": "pt"})

    return changed


def first_nan(weights):
    next(iter(weights.values())).view(-1)[0] = float("nan")


STRANGE = {
    # What is done to a copy of the embedded model, and what is said of it.
    "no words": (lambda folder: (folder / "tokenizer.json").unlink(), "holds no tokenizer.json"),
    "no tokenizer": (lambda folder: (folder / "tokenizer_config.json").unlink(), "holds no tokenizer_config.json"),
    "a pointer of Git LFS": (
        lambda folder: (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\nsize 7\n"),
        "was cloned without Git LFS: model.safetensors is a pointer to the file; run `git lfs pull`",
    ),
    "another tokenizer": (another_tokenizer, r"the tokenizer has \d+ tokens, and config.json says 1,536"),
    "no base of the positions": (lambda folder: declare(folder, rope_theta=0, rope_parameters=None), "frequencies .* rope_theta"),
    "a number that is none": (
        lambda folder: declare(folder, rms_norm_eps=float("nan")),
        "rms_norm_eps is nan, which is no finite",
    ),
    "no number's size": (
        lambda folder: declare(folder, rope_parameters={"rope_type": "default", "rope_theta": float("-inf")}),
        r"rope_parameters\.rope_theta is -inf, which is no finite number",
    ),
    "a length in words": (
        lambda folder: declare(folder, "tokenizer_config.json", model_max_length="0x1F"),
        "tokenizer_config.json says model_max_length is '0x1F', which is no number",
    ),
    "another end": (lambda folder: declare(folder, eos_token_id=900), "token 900 ends a text, and to the tokenizer .* the word"),
    "NaN": (with_weights(first_nan), r"no finite numbers \(1 of \d+ tensors, the first is model\."),
    "a layer less": (
        lambda folder: declare(folder, num_hidden_layers=4, layer_types=None),
        "among its weights, which are of another model",
    ),
    "a layer more": (lambda folder: declare(folder, num_hidden_layers=6, layer_types=None), r"config.json says [\d,]+ numbers"),
    "absurd layers": (lambda folder: declare(folder, num_hidden_layers=10**9, layer_types=None), r"1e\+09 layers"),
    "absurd size": (lambda folder: declare(folder, intermediate_size=10**9), r"config.json says [\d,]+ numbers"),
    "other shapes": (lambda folder: declare(folder, intermediate_size=64), r"has the shape \[.*\] among its weights and \["),
    "gptq": (lambda folder: declare(folder, quantization_config={"quant_method": "gptq", "bits": 4}), r"is quantized \(gptq\)"),
    "an adapter": (lambda folder: declare_adapter(folder), "is an adapter on elsewhere/base"),
    "a kernel": (lambda folder: declare(folder, _attn_implementation="evil/kernel"), "the code of evil/kernel"),
}


def declare_adapter(folder):
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "elsewhere/base", "peft_type": "LORA"}')


@pytest.mark.parametrize("case", STRANGE)
def test_what_does_not_belong_together_is_refused(folder, loaded, case):
    change, said = STRANGE[case]
    change(folder)
    with pytest.raises(UserError, match=said) as error:
        loaded(folder)
    assert str(folder) in str(error.value) and "\n" not in str(error.value)


def test_a_run_that_has_lost_its_tokenizer_does_not_answer_through_another(folder, loaded):
    model, *_ = loaded(TINY)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"holds no tokenizer\.json"):
        base.trained(model, CPU, 0, folder)


DAMAGES = ("empty", "truncated", "flipped", "deleted", "garbage")


def test_a_damaged_folder_ends_in_a_sentence_or_is_the_same_model(loaded, tmp_path):
    """Each file in each way. A byte inside weights, words or a template can only be told by a hash, and is not flipped here."""
    rng, told = random.Random(0), 0
    whole = loaded(TINY)[2].state_dict()
    for name in sorted(path.name for path in TINY.iterdir()):
        for damage in DAMAGES:
            folder = Path(shutil.copytree(TINY, tmp_path / f"{name}-{damage}"))
            data = (folder / name).read_bytes()
            place = rng.randrange(1, min(len(data), 300))
            if damage == "flipped":
                (folder / name).write_bytes(data[:place] + bytes([data[place] ^ 128]) + data[place + 1 :])
            elif damage == "deleted":
                (folder / name).unlink()
            else:
                (folder / name).write_bytes({"empty": b"", "truncated": data[:place], "garbage": rng.randbytes(300)}[damage])
            try:
                kept = loaded(folder)[2].state_dict()
            except UserError as error:
                told += 1
                assert str(folder) in str(error) and "\n" not in str(error), (name, damage)
            else:
                assert all(torch.equal(kept[key], weight) for key, weight in whole.items()), (name, damage)
            shutil.rmtree(folder)
    assert told >= 20


def test_a_damaged_reward_model_ends_in_a_sentence(folder):
    declare(folder, quantization_config={"quant_method": "awq"}, num_labels=1)
    with pytest.raises(UserError, match=r"is quantized \(awq\)"):
        reward_model._loaded(str(folder), None)


# --- Adapters on embeddings and heads ---------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["embed_tokens", "lm_head"])
def test_an_adapter_on_a_tied_weight_is_refused(compose, module):
    model = build.build(compose(["model=tiny", "model/lora=all_linear", f"model.lora.modules=[{module}]"])["model"])
    with pytest.raises(UserError, match=rf"names '{module}', whose weight is that of .*tie_word_embeddings"):
        model.tokenizer(list)


@pytest.fixture
def untied(tmp_path):
    """The embedded model with a head of its own."""
    model = AutoModelForCausalLM.from_pretrained(TINY)
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    model.save_pretrained(tmp_path / "untied")
    AutoTokenizer.from_pretrained(TINY).save_pretrained(tmp_path / "untied")
    return tmp_path / "untied"


def adapted(lora, targets, base, seed):
    """The model with an adapter that changes what it says."""
    torch.manual_seed(seed)
    model = get_peft_model(base, lora.peft_config(targets, "CAUSAL_LM"))
    for name, weight in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight.data, std=0.1)
    return model.eval()


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`")
def test_adapters_on_untied_embeddings_and_heads_merge_and_stack_alike(compose, untied, tmp_path):
    words = ["model=pretrained", f"model.weights={untied}", "model.context_tokens=512", "model.lora.rank=4"]
    model = build.build(compose([*words, "model.lora.modules=[embed_tokens,lm_head,q_proj]"])["model"])
    targets = model.lora.targets(model.skeleton())
    ids = torch.tensor([[5, 900, 17, 1200]])
    with torch.inference_mode():
        below = adapted(model.lora, targets, AutoModelForCausalLM.from_pretrained(untied), 0)
        below.save_pretrained(tmp_path / "below")
        plain, one = AutoModelForCausalLM.from_pretrained(untied)(ids).logits, below(ids).logits
        merged = below.merge_and_unload()
        assert torch.allclose(merged(ids).logits, one, atol=1e-4) and not torch.allclose(plain, one, atol=0.1)
        merged.save_pretrained(tmp_path / "merged")
        again = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
        assert torch.allclose(again(ids).logits, one, atol=1e-4)
        above = adapted(model.lora, targets, again, 1)
        both = above(ids).logits
        above.save_pretrained(tmp_path / "above")
        from_run.stack(tmp_path / "below", tmp_path / "above")
        stacked = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(untied), tmp_path / "above").eval()
        assert torch.allclose(stacked(ids).logits, both, atol=1e-3) and not torch.allclose(one, both, atol=0.1)


def test_the_sum_that_a_run_folder_holds_is_believed_only_where_this_user_has_made_it(compose, tmp_path, monkeypatch):
    """Whoever hands on a run folder may have put other weights beside the adapter, and any hash beside them."""
    monkeypatch.setenv("MEDRL_CACHE", str(tmp_path / "cache"))
    run, words = tmp_path / "run", ["algo=sft", "data_mix=gsm8k", "model/lora=all_linear", "model.lora.rank=4"]
    run.mkdir()
    frozen.freeze(tree := compose(words), run)
    for name in ("provenance.json", "metrics.json"):
        (run / name).write_text('{"run_id": "12345678"}')
    before = build.build(tree["model"])
    below = adapted(before.lora, before.lora.targets(before.skeleton()), AutoModelForCausalLM.from_pretrained(TINY), 0)
    below.save_pretrained(run / "model")
    before.tokenizer(list).save_pretrained(run / "model")
    model = build.build(compose(["model=from_run", f"model.run={run}", "model.lora=null"])["model"])
    made, adapter = [], loading.adapter
    monkeypatch.setattr(loading, "adapter", lambda *about: made.append(about) or adapter(*about))
    with ThreadPoolExecutor(2) as pool:  # two points of a grid that start from it
        merged, _ = pool.map(model._start, [CPU, CPU])
    assert len(made) == 1
    ours = load_file(merged / "model.safetensors")
    assert model._start(CPU) == merged and len(made) == 1
    forged = {name: torch.zeros_like(weight) for name, weight in ours.items()}
    save_file(forged, merged / "model.safetensors", metadata={"format": "pt"})
    hashes = [identity.of_weights(folder)["sha256"] for folder in (run / "model", merged)]
    (merged / "made_of").write_text("\n".join(hashes) + "\n")  # which an earlier version believed
    monkeypatch.setenv("MEDRL_CACHE", str(tmp_path / "of somebody else"))
    assert all(torch.equal(weight, ours[name]) for name, weight in load_file(model._start(CPU) / "model.safetensors").items())
