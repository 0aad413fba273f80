"""What is shown of foreign text and of secrets: nothing that is obeyed, and nothing that nobody else may know."""

import contextlib
import copy
import csv
import io
import sys
from types import SimpleNamespace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from metrics_examples import arm

from medrl import errors
from medrl.config import build, compose, frozen
from medrl.errors import ConfigError, UserError
from medrl.export import card
from medrl.report import terminal
from medrl.safe_text import guarded, holds_secret, masked, secrets, spreadsheet, visible
from medrl.table import formats
from medrl.table.join import join
from medrl.table.table import Column, Table, escape_markdown

PASSWORD = "Pw-planted-1"
JUDGE = yaml.safe_load((frozen.root("conf") / "judge" / "openai.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"at http://me:{PASSWORD}@host:81/x, as said", "at http://***@host:81/x, as said"),
        (f"http://me:p@{PASSWORD}@host/x", "http://***@host/x"),
        (f"HF_ENDPOINT=me:{PASSWORD}@host", "HF_ENDPOINT=***@host"),
        (f"https://host/v1?api-key={PASSWORD}&x=1.", "https://host/v1?***"),
        ("is 'sk-proj-abcdef', and gsk_abcdef123456", "is '***', and ***"),
        (
            "hf_hub_download, risk-adjusted, task-specific, 12:30, a@b.org",
            "hf_hub_download, risk-adjusted, task-specific, 12:30, a@b.org",
        ),
        ("see https://host/a/b#c", "see https://host/a/b#c"),
    ],
)
def test_what_is_masked(text, shown):
    assert masked(text) == shown


def test_secrets_of_the_environment_are_masked_and_paths_and_words_are_not(monkeypatch):
    for name, value in {"JUDGE_KEY": PASSWORD, "A_TOKEN": "true", "SSL_KEY_FILE": "/etc/key.pem", "PWD": "not-a-secret"}.items():
        monkeypatch.setenv(name, value)
    assert masked(f"{PASSWORD} true /etc/key.pem not-a-secret") == "*** true /etc/key.pem not-a-secret"
    assert holds_secret(f"x{PASSWORD}", secrets()) and not holds_secret("https://host/@me?x=1", secrets())
    assert holds_secret("https://host/x?a=1&api-key=another", []) and not holds_secret(
        "https://openreview.net/forum?id=tokens", []
    )


def test_every_user_error_is_masked_and_obeys_nothing(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", PASSWORD)
    assert str(UserError(f"{PASSWORD} at http://a:b@c\n\x1b]0;x\x07\u202e")) == "*** at http://***@c\n?]0;x??"


def test_secrets_in_a_configuration_are_refused_and_not_shown(mistakes):
    values = {
        "judge.base_url": f"https://me:{PASSWORD}@host/v1", "judge.api_key_env": f"gsk_{PASSWORD}",
        "judge.model": f"sk-{PASSWORD}",
        "name": f"me:{PASSWORD}@host", "judge.limits.cache": f"https://{PASSWORD}@host", "source.root": f"ftp://me:{PASSWORD}@host",
        "judge.api_key": PASSWORD,
    }  # fmt: skip
    words = [f"{key}={value}" for key, value in values.items()]
    error = mistakes("algo=none", "judge=openai", "source=local", *words)
    assert PASSWORD not in str(error)
    assert not [key for key in values if key not in str(error)]


@pytest.mark.parametrize("url", [PASSWORD, f"https://host/v1?api-key={PASSWORD}", f"https://host/v1#{PASSWORD}"])
@pytest.mark.parametrize("variable", [f"sk-{PASSWORD}", "Pwplanted1", "PWPLANTED1"])
def test_a_field_that_may_hold_a_secret_is_not_shown(url, variable):
    with pytest.raises(ConfigError) as error:
        build.build({**JUDGE, "base_url": url, "api_key_env": variable})
    assert url not in str(error.value) and variable not in str(error.value)
    assert "https://HOST/v1" in str(error.value) and "JUDGE_KEY" in str(error.value)


def test_a_key_of_the_environment_in_a_configuration_is_refused(monkeypatch):
    tree = compose.tree(["algo=none", "judge=openai", f"judge.model={PASSWORD}"])
    build.check(tree)
    monkeypatch.setenv("OPENAI_API_KEY", PASSWORD)
    with pytest.raises(ConfigError, match=r"judge\.model"):
        build.check(tree)


def test_what_libraries_print_is_guarded_and_so_is_a_traceback(monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", PASSWORD)
    with guarded():
        print(f"{PASSWORD} \x1b[2J\x07\x9b\u202e\r")
        print(f"Retrying http://me:{PASSWORD}@host", file=sys.stderr)
    assert tuple(capsys.readouterr()) == (
        "*** \u2039U+001B\u203a[2J\u2039U+0007\u203a\u2039U+009B\u203a\u2039U+202E\u203a\r\n",
        "Retrying http://***@host\n",
    )
    before = sys.stdout, sys.stderr
    with monkeypatch.context() as patch, contextlib.suppress(ZeroDivisionError):
        patch.setattr(sys, "stdout", before[0])
        patch.setattr(sys, "stderr", before[1])
        errors.exit_code(lambda: 1 // 0)
        pytest.fail("it should have raised")
    assert (sys.stdout, sys.stderr) == before


# --------------------------------------------------------------------------------------------------------------------------------
# Foreign text

LINKS = [
    "![x](http://h/x.png)", "[x](http://h)", "[x][y]", "[y]: http://h", "<http://h.example>", "<img src=x onerror=1>", "<!-- x",
    "`![x](http://h)`", "\\![x](http://h)", "&#33;[x](http://h)", "# big", "> said", "1. one", "- one", "***",
]  # fmt: skip
FORMULAS = ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "\uff1d1", '=HYPERLINK("http://h")', "-", "-x"]
UNSEEN = "\u202e\u2066\u200b\u200d\ufeff\xad\U000e0041\u2028"
PARTS = [*LINKS, *FORMULAS, *UNSEEN, "\x1b[31m", "\x07", "\x9b31m", "\x00", *"[]()!\\`|x"]
FOREIGN = st.one_of(st.text(max_size=9), st.lists(st.sampled_from(PARTS), max_size=5).map("".join))
OBEYED = {chr(code) for code in [*range(9), *range(11, 32), *range(127, 160)]} | set(UNSEEN)


def assert_plain_markdown(text):
    found = [
        inner.type for token in MarkdownIt("commonmark").enable("table").parse(text) for inner in (token, *(token.children or ()))
    ]
    assert not {"link_open", "image", "html_inline", "html_block", "code_inline", "blockquote_open"} & set(found), text


@given(FOREIGN)
def test_markdown_shows_any_text_as_it_is(text):
    escaped = escape_markdown(text)
    assert_plain_markdown(escaped)
    assert not OBEYED & set(escaped)
    (shown,) = [inner.content for inner in MarkdownIt("commonmark").parseInline(escaped)] or [""]
    assert shown == escaped  # one line
    table = Table([Column("a"), Column(text)], [[text, text]], text, {"Notes": [text]})
    assert_plain_markdown(table.markdown())


@given(FOREIGN)
def test_no_cell_of_a_spreadsheet_is_a_formula(text):
    shown = spreadsheet(text)
    assert not shown.lstrip().startswith(("=", "@", "\uff1d")) and not OBEYED & set(shown)
    if shown.lstrip()[:1] in ("+", "-"):
        float(shown)


@pytest.mark.parametrize("text", ["-0.5", "+1", "-1e-05", "12", "arXiv 1, table 2", "a-b", "[-1, 2]", ""])
def test_what_is_no_formula_stays(text):
    assert spreadsheet(text) == text


def places(node, path=()):
    """Paths of all strings of a node, and of the names of its tasks."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from places(value, (*path, key))
    elif isinstance(node, list):
        for at, item in enumerate(node):
            yield from places(item, (*path, at))
    elif isinstance(node, str):
        yield path


def with_text(record, paths, text):
    changed = copy.deepcopy(record)
    for path in paths:
        node = changed
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = text
    return changed


RECORD = arm(
    "none", 80, departures=["a"], words=["algo=grpo", "data_mix=a"], commit="c" * 40,
    judge={"name": "j", "agreement": None, "calls": {"sent": 1}}, source="embedded",
    train={"steps": 60, "seconds": 1.0, "warnings": [{"kind": "k", "step": 1, "message": "m"}]},
    api={"name": "m", "served": {"s": 1}, "answers": 1, "refused": 0, "unmetered": 0, "tokens_in": 1, "tokens_out": 1,
         "usd_per_million": [0.0, 0.0], "usd": 0.0, "calls": {}, "decoding": "d"},
)  # fmt: skip
RECORD["cost"] |= {"seconds": 1.0, "gpu_hours": 0.0, "usd": 0.0, "tokens": 1}
BAD = "=1 ![x](http://h/x.png) [x](http://h) <img src=x> \x1b[31m\x07\x9b\u202e\u200b"


def test_every_string_of_a_run_is_inert_wherever_it_is_shown(tmp_path):
    chosen = {"protocol", "scorer", "control", "test", "split"}  # of medrl's own, where they choose what is shown
    paths = [path for path in places(RECORD) if path[-1] not in ("right", "reference")]
    record, task = RECORD, RECORD["tasks"]["a"]
    named = {
        **task,
        "reference": {BAD: {"accuracy": 0.5}, **task["reference"]},
        "by_group": {BAD: {"n": 1, "accuracy": 0.5, "ci95": [0, 1]}},
    }
    calls = {"api": {**record["api"], "served": {BAD: 1}}, "judge": {**record["judge"], "calls": {BAD: 1}}}
    shown = [
        with_text(RECORD, [path for path in paths if path[-1] not in chosen], BAD),
        with_text(RECORD, [path for path in paths if path[-1] in chosen], BAD),
        {**RECORD, **calls, "tasks": {BAD: named}},
    ]
    for record in shown:
        table = join([record])
        markdown, cells = formats.to_markdown(table), formats.to_csv([table])
        latex = formats.to_latex([table])
        for text in (terminal.table(record, tmp_path), formats.to_terminal(table), latex, markdown, cells):
            assert "img src" in text and not OBEYED & set(text)
        assert_plain_markdown(markdown)
        assert not [cell for row in csv.reader(io.StringIO(cells)) for cell in row if cell.startswith(("=", "@", "\t"))]
        assert "\\url" not in latex and "\\href" not in latex


def test_own_numbers_stay_numbers_in_a_spreadsheet():
    rows = list(csv.DictReader(io.StringIO(formats.to_csv([join([RECORD])]))))
    assert {float(row["value"]) for row in rows} and {row["seeds"] for row in rows} <= {"0", ""}
    assert float(next(row["difference"] for row in csv.DictReader(io.StringIO(formats.cells_of([{"difference": -0.5}]))))) == -0.5


def test_what_a_model_card_says_of_a_run_is_inert():
    assert (
        card._base(None, {"repository": "a/b](http://h)"}) == "[a/b\\](http://h)](https://huggingface.co/a/b%5D%28http%3A//h%29)"
    )
    assert_plain_markdown(card._inert(BAD))
    run = SimpleNamespace(model=SimpleNamespace(weights="embedded:x`\n![x](http://h)`<b>"))
    assert card._base(run, {}) == "`embedded:x' ![x](http://h)'<b>`, the model in medrl's package"


def test_visible_shows_what_cannot_be_seen():
    assert visible("a\u200bb\u202ec\x1b\nd\te") == "a\u2039U+200B\u203ab\u2039U+202E\u203ac\u2039U+001B\u203a\nd\te"
