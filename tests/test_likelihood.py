"""What models make of given text: windows, negative log-likelihoods against torch's own, perplexities, and preference pairs."""

import math
import random
from functools import cache
from pathlib import Path

import pytest
import scipy.stats
from metrics_examples import metrics_of

from medrl.config import build
from medrl.data.example import Example
from medrl.evaluation import evaluate, further, metrics_json, perplexity, preferences
from medrl.files import read_jsonl
from medrl.models import likelihood
from medrl.models.likelihood import NegativeLogLikelihood, Passage, Window
from medrl.models.tokenization import Rendering
from medrl.report import terminal


class Killed(BaseException):
    """Stands for the end of the process."""


@cache
def tiny():
    """The embedded model and its tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from medrl.models.base import EMBEDDED

    policy = AutoModelForCausalLM.from_pretrained(EMBEDDED / "tiny").eval()
    return policy, AutoTokenizer.from_pretrained(EMBEDDED / "tiny")


# --- Windows ---------------------------------------------------------------------------------------------------------


def test_what_fits_is_read_whole():
    assert likelihood.windows(8, 1, 8) == [Window(0, 8, 1)]
    assert likelihood.windows(8, 6, 8) == [Window(0, 8, 6)]  # an answer after its prompt


def test_a_long_text_is_read_in_windows_that_overlap_by_half():
    assert likelihood.windows(20, 1, 8) == [Window(0, 8, 1), Window(4, 12, 8), Window(8, 16, 12), Window(12, 20, 16)]
    assert likelihood.windows(20, 15, 8) == [Window(11, 19, 15), Window(15, 20, 19)]  # a prompt of more than the context


def test_every_token_is_scored_once_with_half_a_context_before_it():
    rng = random.Random(0)
    for _ in range(500):
        length, context = rng.randint(2, 200), rng.randint(2, 60)
        first = rng.randint(1, length - 1)
        found = likelihood.windows(length, first, context)
        scored = [place for window in found for place in range(window.first, window.end)]
        assert scored == list(range(first, length))
        for window in found:
            assert 0 <= window.begin < window.first and window.end - window.begin <= context
            assert window.first - window.begin >= min(window.first, context // 2) or length <= context


# --- Negative log-likelihood -----------------------------------------------------------------------------------------


def by_hand(policy, ids, first):
    """One passage alone, in one piece, by torch's cross entropy."""
    import torch

    with torch.inference_mode():
        logits = policy(input_ids=torch.tensor([ids])).logits[0]
    return torch.nn.functional.cross_entropy(logits[first - 1 : -1], torch.tensor(ids[first:]), reduction="sum").item()


def test_batched_and_padded_as_one_alone():
    policy, _ = tiny()
    rng = random.Random(1)
    passages = [Passage([rng.randrange(1500) for _ in range(rng.randint(3, 40))], rng.randint(1, 2)) for _ in range(12)]
    groups = [passages[:1], passages[1:3], passages[3:9], passages[9:]]
    found = {}
    for batch in NegativeLogLikelihood(policy, 64, 128)(groups):
        found |= batch
    assert sorted(found) == list(range(4))
    for position, group in enumerate(groups):
        assert found[position] == pytest.approx([by_hand(policy, *passage) for passage in group], rel=1e-5)


def test_windows_add_up():
    policy, _ = tiny()
    ids = [random.Random(2).randrange(1500) for _ in range(50)]
    (found,) = NegativeLogLikelihood(policy, 16, 64)([[Passage(ids, 1)]])
    parts = [by_hand(policy, ids[w.begin : w.end], w.first - w.begin) for w in likelihood.windows(50, 1, 16)]
    assert len(parts) > 4 and found[0][0] == pytest.approx(sum(parts), rel=1e-5)


def test_a_document_is_read_after_the_end_of_another():
    _, tokenizer = tiny()
    passage = likelihood.document(Rendering(tokenizer), "Fever is common.")
    assert passage.first == 1 and passage.ids[0] == tokenizer.eos_token_id
    assert tokenizer.decode(passage.ids[1:]) == "Fever is common." and passage.tokens == len(passage.ids) - 1


def test_of_an_answer_the_prompt_is_not_scored():
    _, tokenizer = tiny()
    asked = [{"role": "user", "content": "2 + 2?"}]
    passage = likelihood.reply(Rendering(tokenizer), asked, "4.")
    assert tokenizer.decode(passage.ids[passage.first :]) == "4.<|im_end|>"  # behind which nobody writes any more
    assert passage.ids[: passage.first] == tokenizer.apply_chat_template(asked, add_generation_prompt=True)["input_ids"]


# --- Perplexity ------------------------------------------------------------------------------------------------------


def line(nll, tokens, size=10, group=""):
    return {"id": "x", "nll": nll, "tokens": tokens, "bytes": size, "group": group}


def test_perplexity_is_of_tokens_not_of_documents():
    found = perplexity.numbers([line(2.0, 1, 4), line(3.0, 9, 6)])
    assert found["perplexity"] == pytest.approx(math.exp(0.5)) and found["nll_per_token"] == 0.5
    assert found["bits_per_byte"] == pytest.approx(5 / math.log(2) / 10)
    assert found["ci95"][0] <= found["perplexity"] <= found["ci95"][1]
    assert found["ci95"] == [math.exp(end) for end in found["nll_per_token_ci95"]]
    assert perplexity.numbers([line(2.0, 1)])["ci95"] is None


def test_a_change_is_paired_over_documents():
    before = [line(10.0 + k, 5 + k % 3) for k in range(20)]
    after = [line(each["nll"] - each["tokens"], each["tokens"]) for each in before]  # one nat a token less, everywhere
    change = perplexity.change(before, after)
    assert change["difference"] == pytest.approx(-1) and change["ci95"] == pytest.approx([-1, -1])
    assert (change["lower"], change["higher"]) == (20, 0) and change["p_value"] == pytest.approx(1e-4, rel=0.01)
    same = perplexity.change(before, before)
    assert (same["difference"], same["p_value"], same["lower"], same["higher"]) == (0, 1.0, 0, 0)
    with pytest.raises(ValueError, match="same tokens"):
        perplexity.change(before, [line(1.0, 99)] * 20)


def test_documents_of_one_source_stand_together():
    before = [line(4.0, 2, group="A"), line(6.0, 2, group="B"), line(2.0, 2, group="A")]
    after = [line(2.0, 2, group="A"), line(6.0, 2, group="B"), line(1.0, 2, group="A")]
    found = perplexity.summary(before, after, trained=True)["by_group"]
    assert {group: numbers["n"] for group, numbers in found.items()} == {"A": 2, "B": 1}
    assert found["A"]["nll_per_token"] == 0.75 and found["A"]["base"]["nll_per_token"] == 1.5
    assert perplexity.summary([line(4.0, 2)], [line(4.0, 2)], trained=False)["by_group"] == {}


# --- Preference pairs ------------------------------------------------------------------------------------------------


def test_short_cuts_by_length_are_references():
    examples = [
        Example("", "t", "q", gold, rejected=worse) for gold, worse in (("abc", "a"), ("a", "bc"), ("ab", "cd"), ("abcd", "a"))
    ]
    found = preferences.references(examples)
    assert {name: value["accuracy"] for name, value in found.items()} == {
        "random": 0.5, "longer_answer": 0.5, "shorter_answer": 0.25,
    }  # fmt: skip


@pytest.fixture
def settings(compose):
    tree = compose(["algo=none", "data_mix=medicalgpt_preference", "source.test_rows=6"])
    return tree, build.check(tree)


def made(settings, protocol, values, done=()):
    """Lines of pairs whose answers measure as ``values`` say: chosen and rejected in turn."""
    _, run = settings
    examples = evaluate.held_out(run, "medicalgpt_preference")

    def measure(groups, measured=()):
        assert [len(group) for group in groups] == [2] * 6
        yield from ({place: values[2 * place : 2 * place + 2]} for place in range(6) if place not in measured)

    found = {}
    for batch in preferences.lines(
        run.data_mix.tasks["medicalgpt_preference"], examples, protocol, measure, Rendering(tiny()[1]), done
    ):
        found |= batch
    return examples, found


def test_a_higher_score_is_right_and_equal_scores_are_wrong(settings):
    examples, found = made(settings, "pairwise", [2.0, 1.0, 1.0, 2.0, 1.0, 1.0, 3.0, -3.0, 0.0, 0.1, 5.0, 4.0])
    assert [found[place]["verdict"] for place in range(6)] == ["right", "wrong", "wrong", "right", "wrong", "right"]
    assert [found[place]["id"] for place in range(6)] == [example.id for example in examples]
    assert (found[3]["score_chosen"], found[3]["score_rejected"]) == (3.0, -3.0)
    assert sorted(made(settings, "pairwise", [1.0] * 12, done={0, 4})[1]) == [1, 2, 3, 5]


def test_a_reward_model_is_tested_against_chance_and_the_longer_answer():
    texts = [("long answer", "short")] * 12 + [("brief", "a long answer")] * 8  # the longer answer is right in 12 of 20
    examples = [Example(str(n), "t", "q", gold, rejected=worse) for n, (gold, worse) in enumerate(texts)]
    right = [True] * 11 + [False] + [True] * 7 + [False]
    found = preferences.against([{"verdict": "right" if each else "wrong"} for each in right], examples)
    assert found["chance"]["difference"] == pytest.approx(0.4)
    assert found["chance"]["p_value"] == pytest.approx(scipy.stats.binomtest(18, 20).pvalue)
    assert found["longer_answer"]["accuracy"] == 0.6 and found["longer_answer"]["difference"] == pytest.approx(0.3)
    assert found["longer_answer"]["p_value"] == pytest.approx(scipy.stats.binomtest(1, 8).pvalue)  # 7 gained, 1 lost


def test_likelihood_is_of_a_token(settings):
    """The longer answer is less probable as a whole and may still be the likelier one for its length."""
    _, run = settings
    examples = evaluate.held_out(run, "medicalgpt_preference")
    task, rendering = run.data_mix.tasks["medicalgpt_preference"], Rendering(tiny()[1])
    sizes = [
        likelihood.reply(rendering, evaluate.messages(example, task), text).tokens
        for example in examples
        for text in (example.gold, example.rejected)
    ]
    nll = [size * (1.0 if place % 2 == 0 else 1.1) for place, size in enumerate(sizes)]
    _, found = made(settings, "likelihood", nll)
    assert all(found[place]["verdict"] == "right" for place in range(6))
    assert found[0]["score_chosen"] == pytest.approx(-1.0) and found[0]["score_rejected"] == pytest.approx(-1.1)
    assert any(nll[2 * place] > nll[2 * place + 1] for place in range(6))  # which the sums alone would call wrong


# --- The whole evaluation of a policy --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def held_out_kinds(compose):
    """Text, conversations and pairs, held out together, of a model that is not trained."""
    tree = compose(["algo=none", "data_mix=medicalgpt_preference", "source.test_rows=20", "eval.batch_tokens=600"])
    others = [compose(["algo=none", f"data_mix={mix}"])["data_mix"] for mix in ("medicalgpt_pt", "medicalgpt_sft")]
    for other in others:
        tree["data_mix"]["tasks"] |= other["tasks"]
    tree["data_mix"]["held_out"] = ["medicalgpt_pt", "medicalgpt_sft", "medicalgpt_preference"]
    return tree


def test_a_killed_evaluation_goes_on_with_the_same_lines(held_out_kinds, tmp_path, monkeypatch):
    settings = build.check(held_out_kinds)
    policy, tokenizer = tiny()
    evaluate.answer_tasks(settings, "base", policy, tokenizer, tmp_path / "whole")
    files = evaluate.result_files(settings, "base")
    assert list(files) == ["medicalgpt_pt", "medicalgpt_sft", "medicalgpt_preference"]
    counted, sums = [0], NegativeLogLikelihood.values

    def breaking(self, rows, firsts):
        counted[0] += 1
        if counted[0] % 4 == 0:
            raise Killed
        return sums(self, rows, firsts)

    monkeypatch.setattr(NegativeLogLikelihood, "values", breaking)
    kills = 0
    while further.missing(settings, "base", tmp_path / "killed"):
        try:
            evaluate.answer_tasks(settings, "base", policy, tokenizer, tmp_path / "killed")
        except Killed:
            kills += 1
            assert kills < 30
    assert kills > 2 and not list((tmp_path / "killed").glob("*.begun"))
    for file in files.values():
        assert len(read_jsonl(tmp_path / "whole" / file)) == 20
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    found = metrics_json.summarise(settings, tmp_path / "whole")
    assert set(found["tasks"]) == {"medicalgpt_preference"}
    assert set(found["perplexity"]) == {"medicalgpt_pt", "medicalgpt_sft"}
    task = found["tasks"]["medicalgpt_preference"]
    assert (task["protocol"], task["scorer"], task["samples"], task["change"]) == ("likelihood", "pairs by likelihood", 1, None)
    lines = read_jsonl(tmp_path / "whole" / files["medicalgpt_preference"])
    assert task["accuracy"] == sum(line["score_chosen"] > line["score_rejected"] for line in lines) / 20
    texts = read_jsonl(tmp_path / "whole" / files["medicalgpt_pt"])
    example = evaluate.held_out(settings, "medicalgpt_pt")[7]
    assert texts[7]["id"] == example.id and texts[7]["bytes"] == len(example.gold.encode())
    assert texts[7]["nll"] == pytest.approx(by_hand(policy, *likelihood.document(Rendering(tokenizer), example.gold)), rel=1e-5)


# --- The table -------------------------------------------------------------------------------------------------------


def text_task(factor=0.5):
    before = [line(4.0 + k % 3, 4) for k in range(30)]
    after = [line(each["nll"] * factor, 4) for each in before]
    about = {"version": 1, "protocol": "perplexity", "split": "a/test"}
    return {**about, **perplexity.summary(before, after, trained=True)}


def test_perplexities_have_tables_of_their_own(golden):
    golden(
        "tables/perplexity.txt",
        terminal.table(metrics_of(name="pt", perplexity={"texts": text_task()}), Path("runs/pt-0123abcd")),
    )
    seeds = [metrics_of(seed=seed, perplexity={"texts": text_task(0.5 + seed / 10)}) for seed in range(2)]
    golden("tables/perplexity-seeds.txt", terminal.seeds(seeds))
