"""A model behind an API, evaluated like one's own: here a real server on the loopback address, asked by the openai client."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from pathlib import Path

import killed
import pytest
from loopback_api import LoopbackApi, Reply
from metrics_examples import TRAINED, arm, metrics_of

from medrl import chat, predict, verify
from medrl.config import build, schema
from medrl.errors import UserError
from medrl.files import read_jsonl
from medrl.grading.thoughts import spoken
from medrl.jobs import multirun_table
from medrl.models.api import client
from medrl.models.api.api_model import Asking
from medrl.models.generation import Sampling
from medrl.report import phrases
from medrl.statistics.metrics import mcnemar
from medrl.table import formats, published, side_by_side
from medrl.table.join import join

KEY = "sk-a-key-of-the-tests"
GREEDY = Sampling(temperature=0.0, top_p=1.0, max_new_tokens=50, seed=0)
DRAWN = replace(GREEDY, temperature=0.7, top_p=0.9)
WORDS = ("algo=none", "model=openai_compatible", "model.name=gpt-x", "hardware=cpu")


@pytest.fixture(autouse=True)
def at_home(tmp_path, monkeypatch):
    """Answers are kept in a folder of the test; nobody here has certificates, which take long to load."""
    monkeypatch.setenv("MEDRL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    client.shared_account.cache_clear()


@pytest.fixture
def endpoint():
    with LoopbackApi() as started:
        yield started


@pytest.fixture
def model(compose, endpoint):
    """Makes a model that asks ``endpoint``."""

    def made(*words):
        node = compose([*WORDS, f"model.base_url={endpoint.url}", "model.limits.attempts=3", *words])["model"]
        return build.build(node)

    return made


def ask(model, *questions, sampling=GREEDY):
    """What a model answers, in order."""
    client.shared_account.cache_clear()  # as another process
    prompts = [[{"role": "user", "content": question}] for question in questions]
    found = {}
    for batch in Asking(model).complete(prompts, [f"t/{place}/0" for place in range(len(questions))], sampling):
        found |= batch
    return [found[place] for place in range(len(questions))]


def kept(model):
    return [line for line in model.path_of_answers().read_text(encoding="utf-8").splitlines() if line]


def refused(*parts):
    """Expect one sentence that says all of these, and no key."""

    def right(error):
        text = str(error)
        assert "\n" not in text and text.endswith(".") and KEY not in text
        return all(part in text for part in parts) or pytest.fail(text)

    return pytest.raises(UserError, check=right)


# --- Configuration -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "key", "part"),
    [
        (["model.name="], "model.name", "is empty"),
        (["algo=grpo"], "model", "algo=none"),
        (["algo=rm", "data_mix=medicalgpt_preference"], "model", "cannot be trained"),
        (["eval.calibration=true"], "eval.calibration", "likelihood"),
        (["data_mix=medicalgpt_pt"], "data_mix.held_out", "perplexity"),
        (["data_mix=medicalgpt_preference"], "data_mix.held_out", "likelihood"),
        (["data_mix.format=auto"], "data_mix.format", "name the format"),
        (["+model.request.temperature=1"], "model.request", "temperature"),
        (["model.quantization=nf4"], "model.quantization", "write null"),
        (["model.limits.max_spend=1"], "model.limits.max_spend", "needs a price"),
        (["model.base_url=api.openai.com"], "model.base_url", "http"),
        (["model.api_key_env=sk-proj-key"], "model.api_key_env", "has a value that is not shown here"),
    ],
)
def test_what_an_api_cannot_be_asked_is_one_sentence(mistakes, words, key, part):

    error = mistakes(*WORDS, *words)
    assert key in [problem.key for problem in error.problems], error
    assert part in str(error)


def test_a_run_is_named_by_what_is_asked_and_not_by_where_or_how_fast(compose):
    def id_of(*words):
        return schema.run_id(build.unchecked(compose([*WORDS, *words])))

    own = id_of()
    for same in (
        "model.base_url=http://other/v1", "model.api_key_env=null", "model.limits.concurrency=1", "hardware.precision=bf16",
        "model.limits.usd_per_million_input_tokens=9", "model.context_tokens=9999", "eval.limit=3",
    ):  # fmt: skip
        assert id_of(same) == own, same
    others = [
        id_of(word)
        for word in ("model.name=gpt-y", "model.served=gpt-x-1", "model.sends_decoding=false", "+model.request.top_k=1", "seed=1")
    ]
    assert len({own, *others}) == 6
    assert compose([*WORDS, "model.name=org/gpt x"])["name"] == "none-org_gpt_x-pubmed70"


# --- What is sent --------------------------------------------------------------------------------------------------------


def test_what_is_sent(endpoint, model):
    ask(model("+model.request.reasoning_effort=low"), "Flu?")
    ask(model("model.token_limit=max_tokens"), "Flu?", "Cold?", sampling=DRAWN)
    ask(model("model.sends_decoding=false"), "Flu?")
    greedy, drawn, cold, plain = (dict(each.body) for each in endpoint.requests)
    asked = {"model": "gpt-x", "messages": [{"role": "user", "content": "Flu?"}]}
    assert greedy == {**asked, "max_completion_tokens": 50, "temperature": 0.0, "reasoning_effort": "low"}
    seeds = {drawn.pop("seed"), cold.pop("seed")}
    assert len(seeds) == 2 and all(0 <= seed < 2**31 for seed in seeds)
    assert sorted([drawn["messages"][0]["content"], cold["messages"][0]["content"]]) == ["Cold?", "Flu?"]
    del drawn["messages"], cold["messages"]
    assert drawn == cold == {"model": "gpt-x", "max_tokens": 50, "temperature": 0.7, "top_p": 0.9}
    assert plain == {**asked, "max_completion_tokens": 50}
    assert {each.headers["Authorization"] for each in endpoint.requests} == {f"Bearer {KEY}"}


def test_a_second_time_nothing_is_asked(endpoint, model):
    first = ask(model(), "Flu?", "Cold?", "Flu?")
    assert len(endpoint.requests) == 2  # equal questions once
    assert ask(model("model.limits.concurrency=1", "model.api_key_env=null"), "Cold?", "Flu?", "Gout?")[:2] == first[:0:-1]
    assert len(endpoint.requests) == 3
    for other in (["model.name=gpt-y"], ["+model.request.top_k=1"]):
        ask(model(*other), "Flu?")
    ask(model(), "Flu?", sampling=replace(GREEDY, max_new_tokens=51))
    assert len(endpoint.requests) == 6


def test_samples_of_an_endpoint_that_takes_no_seed_are_asked_each(endpoint, model):
    """The requests are equal; the answers are other draws."""
    ask(model("model.sends_decoding=false"), *["Flu?"] * 4, sampling=DRAWN)
    assert len(endpoint.requests) == 4
    ask(model("model.sends_decoding=false"), *["Flu?"] * 4, sampling=DRAWN)
    assert len(endpoint.requests) == 4


# --- What is read --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])  # DeepSeek and vLLM; OpenRouter and later vLLM
def test_a_thought_beside_the_content_is_kept_as_the_thought(field, endpoint, model):
    endpoint.always("Flu?", Reply(content="<answer>B</answer>", thought={field: "Perhaps A."}))
    endpoint.always("Cold?", Reply(content="", thought={field: "Perhaps <answer>A</answer>"}, finish="length"))
    flu, cold = ask(model(), "Flu?", "Cold?")
    assert flu.text == "<think>\nPerhaps A.\n</think>\n\n<answer>B</answer>" and flu.finished
    assert spoken(flu.text).final.strip() == "<answer>B</answer>"
    assert spoken(cold.text).final is None and not cold.finished


@pytest.mark.parametrize(
    ("reply", "text", "finished"),
    [
        (Reply(content="B"), "B", True),
        (Reply(content="B", finish="length"), "B", False),
        (Reply(content="B", finish="content_filter"), "B", False),
        (Reply(content=""), "", True),
        (Reply(refusal="I'm sorry."), "I'm sorry.", True),
        (Reply(status=400, error={"message": "Filtered.", "code": "content_filter"}), "", True),
        (Reply(status=400, error={"message": "the maximum context length is 512 tokens", "code": 400}), "", False),
        (Reply(status=413), "", False),
    ],
)
def test_every_question_has_an_answer(reply, text, finished, endpoint, model):
    """What an endpoint refuses is answered with nothing: it leaves no denominator, and it is not asked again."""
    endpoint.always("Flu?", reply)
    (made,) = ask(model(), "Flu?")
    assert (made.text, made.finished, len(endpoint.requests)) == (text, finished, 1)
    said_no = reply.status != 200 or reply.finish == "content_filter"
    assert bool(made.about["api"]["refused"]) == said_no
    assert made.tokens == (10 if reply.status == 200 else 0)


BAD = {
    "500": (Reply(status=500), "answered 500"),
    "429": (Reply(status=429, headers={"Retry-After": "0"}), "answered 429"),
    "garbage": (Reply(body=b'{"choices": [{"mess'), "no chat completion"),
    "no choices": (Reply(body=b'{"choices": []}'), "no chat completion"),
    "closed": (Reply(cut=True), "cannot be reached"),
    "overloaded": (Reply(finish="insufficient_system_resource"), "broken off (insufficient_system_resource)"),
    "no end": (Reply(finish=None), "broken off"),
}


def test_bad_moments_pass(endpoint, model):
    for name, (reply, _) in BAD.items():
        endpoint.script(f"{name}?", reply, reply)
    assert [made.text for made in ask(model(), *(f"{name}?" for name in BAD))] == ["The answer."] * len(BAD)
    tally = model().tally()
    assert (tally["answered"], tally["retried"], tally["failed"]) == (len(BAD), 2 * len(BAD), 0)


@pytest.mark.parametrize("name", list(BAD))
def test_a_failure_is_one_sentence_and_loses_nothing(name, endpoint, model):
    reply, reason = BAD[name]
    endpoint.always("Cold?", reply)
    one = model("model.limits.concurrency=1")
    with refused("gpt-x", "no answer on 1 of 3 questions", reason, "(1) are kept", "run the same command again"):
        ask(one, "Flu?", "Cold?", "Gout?")
    assert len(kept(one)) == 1
    endpoint.always("Cold?", Reply())
    count = len(endpoint.requests)
    assert len(ask(one, "Flu?", "Cold?", "Gout?")) == 3
    assert len(endpoint.requests) == count + 2  # the first is known


def test_an_endpoint_that_does_not_answer_in_time(endpoint, model):
    endpoint.always("Flu?", Reply(hold=True))
    with refused("no answer within 0.1 s"):
        ask(model("model.limits.timeout_seconds=0.1", "model.limits.attempts=2"), "Flu?")


def test_an_endpoint_that_asks_for_an_hour_says_so(endpoint, model):
    endpoint.always("Flu?", Reply(status=429, headers={"Retry-After": "3600"}, error={"message": "Slow down."}))
    with refused("answered 429: Slow down and asks to wait (3600)"):
        ask(model("model.limits.attempts=1"), "Flu?")


@pytest.mark.parametrize(
    ("status", "error", "parts"),
    [
        (401, {"message": f"Incorrect API key provided: {KEY}."}, ["401", "***", "the key in OPENAI_API_KEY"]),
        (404, {"message": "The model `gpt-x` does not exist", "code": "model_not_found"}, ["does not exist", "model.name"]),
        (402, {"message": "Insufficient Balance"}, ["no credit left (402: Insufficient Balance)"]),
        (400, {"message": "'temperature' does not support 0.0"}, ["'temperature' does not support 0.0"]),
    ],
)
def test_a_mistake_of_the_user_stops_at_once(status, error, parts, endpoint, model):
    endpoint.always("Cold?", Reply(status=status, error=error))
    one = model("model.limits.concurrency=1")
    with refused("The model gpt-x at", endpoint.url, "model.base_url", *parts):
        ask(one, "Flu?", "Cold?", "Gout?")
    assert len(endpoint.requests) == 2 and len(kept(one)) == 1


def test_a_missing_key_is_named(endpoint, model, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with refused("needs a key and OPENAI_API_KEY is not set", "model.api_key_env=null"):
        model().ready()
    with refused("OPENAI_API_KEY is not set"):
        ask(model(), "Flu?")
    assert not endpoint.requests
    model("model.api_key_env=null").ready()


def test_another_model_than_the_pinned_one_is_not_taken(endpoint, model):
    assert ask(model("model.served=gpt-x-served"), "Flu?")[0].about["api"]["served"] == "gpt-x-served"
    endpoint.always("Cold?", Reply(served="gpt-x-of-tomorrow"))
    pinned = model("model.served=gpt-x-served")
    with refused("has served gpt-x-of-tomorrow", "asks for gpt-x-served"):
        ask(pinned, "Cold?")
    assert len(kept(pinned)) == 1


# --- Limits --------------------------------------------------------------------------------------------------------------


def test_no_more_at_once_than_allowed(endpoint, model):
    endpoint.delay = 0.05
    ask(model("model.limits.concurrency=3"), *map(str, range(9)))
    assert endpoint.most_at_once == 3


@pytest.mark.parametrize(
    ("limit", "most", "parts"),
    [
        ("max_spend=0.002", 20, ["has cost 0.00", "model.limits.max_spend=0.002"]),
        ("max_tokens=1500", 14, ["tokens and its next request could exceed model.limits.max_tokens=1500"]),
    ],
)
def test_what_may_be_spent_is_never_exceeded_and_what_came_is_kept(limit, most, parts, endpoint, model):
    """Each answer takes 100 tokens in and 10 out, which cost 0.0001 US dollars; the next could take some 300 in and 50 out."""
    prices = ["model.limits.usd_per_million_input_tokens=0.9", "model.limits.usd_per_million_output_tokens=1"]
    limited = model(f"model.limits.{limit}", *prices, "model.limits.attempts=1", "model.limits.concurrency=8")
    endpoint.delay = 0.01
    with refused("gpt-x", "(", "are kept", "raise it and run the same command again", *parts):
        ask(limited, *(f"Question {number}?" for number in range(30)))
    asked = len(endpoint.requests)
    assert most / 2 < asked <= most and len(kept(limited)) == asked
    assert len(ask(model(), *(f"Question {number}?" for number in range(30)))) == 30
    assert len(endpoint.requests) == 30


def test_a_question_waits_for_the_money_of_those_under_way(endpoint, model):
    """Together they could exceed it, one after the other they cannot: that is no reason to stop."""
    prices = ["model.limits.usd_per_million_input_tokens=1", "model.limits.usd_per_million_output_tokens=1"]
    endpoint.delay = 0.02
    limited = model("model.limits.max_spend=0.0015", *prices, "model.limits.attempts=3", "model.limits.concurrency=8")
    assert len(ask(limited, *(f"Question {number}?" for number in range(4)))) == 4
    assert endpoint.most_at_once == 1


# --- The whole line ------------------------------------------------------------------------------------------------------


class Doctor(LoopbackApi):
    """Answers every second question as it was asked to, and the others with a word."""

    def says(self, asked):
        even = sum(map(ord, asked.user)) % 2
        return "<reasoning>\nSo it seems.\n</reasoning>\n<answer>\nyes\n</answer>\n" if even else "Perhaps."


@pytest.fixture
def doctor():
    with Doctor() as started:
        yield started


def line(folder, endpoint, *words):
    return [
        *WORDS, "data_mix=pubmedqa", "eval.limit=20", "source.train_rows=60", f"model.base_url={endpoint.url}", f"runs={folder}",
        "model.limits.usd_per_million_input_tokens=10", "model.limits.usd_per_million_output_tokens=100", *words,
    ]  # fmt: skip


def finished(compose, folder, endpoint, *words):
    from medrl import lifecycle

    client.shared_account.cache_clear()
    tree = compose(line(folder, endpoint, *words))
    return lifecycle.run(tree), schema.run_dir(build.check(tree))


def test_a_model_behind_an_api_is_evaluated_like_ones_own(compose, tmp_path, doctor, capsys):
    doctor.script("?", Reply(content="Perhaps.", finish="length"))
    metrics, folder = finished(compose, tmp_path / "runs", doctor)
    assert folder.name == f"none-gpt-x-pubmedqa-{metrics['run_id']}"
    task, api = metrics["tasks"]["pubmedqa"], metrics["api"]
    (path,) = folder.glob("eval/*.jsonl")
    lines = read_jsonl(path)
    verdicts = [each["verdict"] for each in lines]
    assert verdicts.count("truncated") == 1 and {"right", "wrong", "unparsed"} < set(verdicts)
    assert task["n"] == 20 and task["accuracy"] == verdicts.count("right") / 20 and task["truncated"] == 1 / 20
    assert len(doctor.requests) == 20
    assert api["served"] == {"gpt-x-served": 20} and (api["tokens_in"], api["tokens_out"]) == (2000, 200)
    assert api["usd"] == metrics["cost"]["usd"] == pytest.approx(0.02 + 0.02)
    assert api["calls"]["sent"] == 20 and api["calls"]["spend"] == pytest.approx(0.04)
    provenance = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    (stage,) = provenance["stages"]
    assert stage["generation"]["base_url"] == doctor.url and stage["generation"]["temperature"] == 0
    assert stage["files"][f"eval/{path.name}"]["sha256"]
    assert KEY not in "".join(each.read_text(encoding="utf-8") for each in folder.rglob("*") if each.is_file())
    said = capsys.readouterr().out
    assert "API: gpt-x, served as gpt-x-served; 2,000 tokens in, 200 out: US$ 0.0400; this run: 20 requests" in said
    assert "served as gpt-x-served" in (folder / "report.html").read_text(encoding="utf-8")

    # elsewhere, at another time: nothing is asked, and what it has cost is known
    again, _ = finished(compose, tmp_path / "others", doctor, "model.limits.concurrency=1")
    assert len(doctor.requests) == 20 and again["run_id"] == metrics["run_id"]
    assert again["tasks"] == metrics["tasks"] and again["api"]["usd"] == api["usd"]
    assert again["api"]["calls"]["spend"] == 0 and again["api"]["calls"]["cached"] == 20

    damaged, checked = verify.verify(folder, 0.5, 0)
    assert not damaged and [(each.answers, each.asked, each.differs) for each in checked] == [(20, 0, False)]
    assert chat.main([str(folder), "question=Flu?"]) == 1
    assert "medrl.predict asks it" in capsys.readouterr().err


def test_without_a_key_nothing_is_begun(compose, tmp_path, doctor, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with refused("needs a key and OPENAI_API_KEY is not set"):
        finished(compose, tmp_path / "runs", doctor)
    assert not (tmp_path / "runs").exists()


def test_two_models_under_one_name_are_said(compose, tmp_path, doctor, capsys):
    doctor.script("?", Reply(served="gpt-x-2"))
    metrics, _ = finished(compose, tmp_path, doctor)
    assert metrics["api"]["served"] == {"gpt-x-2": 1, "gpt-x-served": 19}
    assert "answers of several models in one number" in capsys.readouterr().out


def test_a_kill_loses_no_answer_that_came(tmp_path):
    with Doctor(delay=0.2) as doctor:
        words = line(tmp_path / "runs", doctor, "model.limits.concurrency=2")
        process = killed.medrl(*words)
        killed.wait_until(lambda: len(doctor.requests) >= 6, process)
        killed.kill(process)
        time.sleep(0.5)
        before = len(doctor.requests)
        assert before < 20
        killed.finish(*words)
        assert len(doctor.requests) <= 20 + 2  # two were under way
        (found,) = (tmp_path / "runs").glob("*/metrics.json")
        assert json.loads(found.read_text(encoding="utf-8"))["tasks"]["pubmedqa"]["n"] == 20


def test_the_plan_says_what_it_can_cost_and_asks_nothing(compose, tmp_path, doctor, capsys):
    from medrl import lifecycle

    planned = lifecycle.run(compose([*line(tmp_path, doctor), "dry_run=true", "model.max_new_tokens=100"]))
    most = planned["evaluation"]["usd at most"]
    assert 20 * 100 * 100 / 1e6 < most < 2  # the answers alone, and prompts of some hundred bytes beside them
    assert f"US$ {most:.2f} at most" in capsys.readouterr().out
    assert not doctor.requests and not list(tmp_path.glob("none-*"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], ""),
        (["eval.temperature=0.5", "eval.samples=2"], "drawn by the server, with seeds that it may not heed"),
        (["model.sends_decoding=false"], "the decoding is the server's own"),
    ],
)
def test_who_decodes_is_said(words, said, compose, tmp_path, doctor, capsys):
    metrics, _ = finished(compose, tmp_path, doctor, "eval.limit=2", *words)
    assert metrics["api"]["decoding"] == said and said in capsys.readouterr().out
    assert len(doctor.requests) == 2 * metrics["eval"]["samples"]


def test_rows_without_golds_are_predicted_through_an_api(tmp_path, doctor, capsys):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"question": f"{disease}?"}) + "\n" for disease in ("Flu", "Gout")), encoding="utf-8")
    words = [f"model.base_url={doctor.url}", "model.name=gpt-x", f"input={rows}", f"output={tmp_path / 'out.jsonl'}"]
    assert predict.main(["openai_compatible", *words]) == 0, capsys.readouterr().err
    assert len(read_jsonl(tmp_path / "out.jsonl")) == len(doctor.requests) == 2


# --- Side by side --------------------------------------------------------------------------------------------------------


def api_run(name, right, n=100, readable=None, **changed):
    """A run that asked a model behind an API: the last so many of its answers are right, and a reader finds ``readable``."""
    found = arm("none", right, n=n, readable=readable)
    task = found["tasks"]["a"]
    for where, count in ((task, right), (task["readable"], right if readable is None else readable)):
        where["right"] = "".join(str(int(at >= n - count)) for at in range(n))
    del task["readable_change"]
    task |= {"change": None, "base": task}
    calls = {"spend": 0.25, "sent": 100, "cached": 0}
    api = {
        "name": name, "served": {f"{name}-1": n}, "answers": n, "refused": 0, "unmetered": 0, "tokens_in": 10, "tokens_out": 5,
        "usd_per_million": [1.0, 2.0], "usd": 0.5, "calls": calls, "decoding": "",
    }  # fmt: skip
    about = {"name": f"none-{name}", "family": f"family of {name}", "run_id": name, "api": api, "control": None}
    cost = {"gpu_hours": 0.0, "usd": 0.5, "tokens": 0, "peak_memory_gib": 1.0}
    return metrics_of(**{**found, **about, "train": {**TRAINED, "steps": 0}, "cost": cost, **changed})


def own_run(right, **changed):
    cost = {"gpu_hours": 0.0, "tokens": 0, "peak_memory_gib": 1.0}
    return arm("none", right, **{"name": "mine", "family": "own", "cost": cost, **changed})


def test_ones_own_model_is_paired_with_each_that_is_asked_and_corrected_for_all_of_them():
    """The own run has the first 60 of 100 right, the others their last: which were gained and lost is known exactly."""
    records = [api_run("x", 50, readable=80), own_run(60, readable=60), api_run("y", 30), api_run("z", 90)]
    shown = side_by_side.table(records, lambda record: record["name"])
    rows = [dict(zip(shown.heads, row, strict=True)) for row in shown.rows]
    assert [(row["model"], row["against"], row["measure"]) for row in rows] == [
        ("mine", f"none-{name}", measure) for name in "xyz" for measure in ("accuracy", phrases.READABLE)
    ]
    strict = [row for row in rows if row["measure"] == "accuracy"]
    assert [(row["model's"], row["the other's"]) for row in strict] == [("60.0 %", f"{n}.0 %") for n in (50, 30, 90)]
    gained = {"x": (50, 40), "y": (60, 30), "z": (10, 40)}  # right of the first 60 alone, and of the last alone
    p_values = {name: mcnemar(*counts) for name, counts in gained.items()}
    for name, row in zip("xyz", strict, strict=True):
        assert f"exact McNemar: {gained[name][0]} to {gained[name][1]}" in row["test"]
        assert row["test"].startswith(phrases.p_value(p_values[name]))
    ordered = sorted(p_values.values())
    assert f"Holm {phrases.p_value(3 * ordered[0]).removeprefix('p ').removeprefix('= ')}" in strict[2]["test"]
    assert [row["verdict"] for row in strict] == ["not told apart", "above", "BELOW"]


def test_where_none_was_trained_the_first_stands_beside_the_others():
    found = side_by_side.pairs([api_run("x", 50), api_run("y", 30), api_run("z", 90)])
    assert [(pair.model.runs[0]["run_id"], pair.other.runs[0]["run_id"]) for pair in found] == [("x", "y"), ("x", "z")]


@pytest.mark.parametrize("part", ["examples", "n", "version", "split", "scorer"])
def test_only_the_same_examples_are_paired(part):
    other = api_run("x", 50)
    other["tasks"]["a"][part] = {"n": 99, "version": 2}.get(part, "another")
    assert not side_by_side.pairs([own_run(60), other])
    assert not side_by_side.pairs([own_run(60), own_run(50, family="other")])  # what each gained stands elsewhere
    assert not side_by_side.pairs([arm("coin", 60), api_run("x", 50)])


def test_seeds_are_paired_as_their_mean_and_what_was_asked_otherwise_is_said():
    records = [own_run(60, seed=0), own_run(70, seed=1), api_run("x", 50, eval={"samples": 1, "max_new_tokens": 9})]
    shown = side_by_side.table(records, lambda record: record["name"])
    row = dict(zip(shown.heads, shown.rows[0], strict=True))
    assert row["model's"] == "65.0 %" and row["difference"].startswith("+15.0 points") and "sign-flip" in row["test"]
    assert "mine and none-x were not asked alike: samples 1 and 1" not in str(shown.notes)
    assert "mine and none-x were not asked alike: max_new_tokens None and 9" in str(shown.notes)


def test_both_tables_show_the_pairs_and_the_money():
    records = [own_run(60, words=[]), api_run("x", 30, words=[])]
    comparison = join(records)
    for text in (formats.to_terminal(comparison), formats.to_markdown(comparison), formats.to_latex([comparison])):
        assert "exact McNemar: 60 to 30" in text and "US" in text and "0.50" in text
    assert ",0.5," in formats.to_csv([comparison])
    entries = [multirun_table.Entry((name,), Path("runs"), api_run(name, right)) for name, right in (("x", 50), ("y", 30))]
    grid = multirun_table.Grid(("model.name",), entries)
    for text in (grid.text("title"), grid.markdown("command", ())):
        assert "name x" in text and "sign" not in text and "x-1" in text and "0.5000" in text and "0.2500" in text


def test_a_paper_says_nothing_of_what_somebody_else_serves():
    """Its number is one of training; the model stands beside it and is called after itself."""
    setting = published.read("paper", "pangu_dxbench")
    record = api_run("deepseek", 50, paper="pangu_dxbench", words=["model.limits.max_spend=1", "model.base_url=http://x/v1"])
    record["tasks"] = {"dxbench": record["tasks"]["a"] | {"mean_credit": 0.5}}
    comparison = join([record], setting)
    assert [row.kind for row in comparison.rows if row.kind == "measured"] and not any(row.verdicts for row in comparison.rows)
    own = join([own_run(60, words=[], paper="pangu_dxbench", tasks={"dxbench": own_run(60)["tasks"]["a"]})], setting)
    assert any(row.verdicts for row in own.rows)


def test_two_threads_share_the_limits(endpoint, model):
    endpoint.delay = 0.02
    one = model("model.limits.concurrency=2")
    client.shared_account.cache_clear()
    threads = [
        threading.Thread(
            target=lambda name=name: list(Asking(one).complete([[{"role": "user", "content": name}]], [name], GREEDY))
        )
        for name in "abcd"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert one.tally()["sent"] == 4 and endpoint.most_at_once <= 2
