"""How fast rewards are: completions a second on one core, for every reward set that needs no model.

    python benchmarks/rewards.py [--completions 2048] [--rounds 5] [--out FILE]

Completions are seeded, of 300 tokens (about 1,300 characters): two in five right, two in five wrong, one in five unparsed.
They go through the functions that TRL calls, in batches of 64, made anew for every round, so that extraction, grade and
each reward are paid for. Processor time is what counts, and the best round: other processes on the machine take none of it.
The ratio of every case is to the five functions of `plain_trl.py` on the completions of the first. Wanted: at least 20,000 a
second for each set that rules grade; the lexical judge is beside them.
"""

import gc
import random
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import plain_trl
from record import options, write

from medrl.config import build, compose
from medrl.data.mix import TrainingRow
from medrl.grading.answers import layout, tags
from medrl.rewards.base import RewardSet
from medrl.tasks import lexicon

CHARACTERS, TOKENS, BATCH, EOS = 1300, 300, 64, 2
CHINESE = "患者主诉发热咳嗽乏力已有数天查体未见明显异常考虑感染可能性较大需要结合检查结果进一步判断并排除其他疾病"


class Case(NamedTuple):
    """A reward set on tasks that it is meant for."""

    name: str
    overrides: tuple[str, ...]


CASES = (
    Case("medical_xml", ("reward_set=medical_xml", "data_mix=pubmed70")),
    Case("hierarchy", ("reward_set=hierarchy", "data_mix=pubmed70")),
    Case("exact", ("reward_set=exact", "data_mix=pubmed70")),
    Case("xr1, MedQA", ("reward_set=xr1", "data_mix=medqa", "data_mix.format=think")),
    Case("inverse_rank, zh", ("reward_set=inverse_rank", "data_mix=dxbench", "data_mix.format=think")),
    Case(
        "inverse_rank, en",
        (
            "reward_set=inverse_rank",
            "data_mix=dxbench",
            "data_mix.format=think",
            *(f"data_mix.tasks.dxbench.{split}=DxBench/en" for split in ("train", "test")),
        ),
    ),
    Case("xr1, lexical judge", ("reward_set=xr1", "data_mix=medical_o1_verifiable")),
)


def reasoning(rng: random.Random, language: str, length: int) -> str:
    """Steps of made-up medical sentences, some of them numbered, about so many characters long."""
    lines: list[str] = []
    while sum(map(len, lines)) < length:
        opening = rng.choice((f"{len(lines) + 1}. ", f"Step {len(lines) + 1}: ", "- ", "", ""))
        if language == "zh":
            lines.append(opening + "".join(rng.choices(CHINESE, k=40)) + f"，体温{rng.randint(36, 40)}度。")
        else:
            what, outcome = rng.choice(lexicon.DRUGS + lexicon.PRACTICES), rng.choice(lexicon.OUTCOMES)
            lines.append(
                f"{opening}With {what}, {outcome} in {rng.choice(lexicon.PATIENTS)} was {rng.randint(2, 90)}% "
                f"(p = 0.{rng.randint(1, 99):02d}), so the answer may depend on it."
            )
    return "\n".join(lines)[:length].rstrip()


def written(rng: random.Random, row: TrainingRow, others: Sequence[TrainingRow]) -> str:
    """A completion to a row: right, wrong or unparsed."""
    task, example = row.task, row.example
    right, wrong = task.answer(example), task.answers.wrong(example, [other.example for other in others])
    if not task.answers.options(example) and not task.answers.numeric:  # free text is seldom wrong twice in the same words
        wrong = f"{wrong} for {rng.randint(2, 9999)} days"
    answer = rng.choice((right, right, wrong, wrong, ""))
    frame = len(layout("", answer, task.format))
    text = layout(reasoning(rng, task.language, CHARACTERS - frame), answer, task.format)
    if not answer:  # an empty answer, one without its closing tag, or the answer twice
        block = layout("", right, task.format).partition(tags(task.format)[1])[2]
        text = rng.choice((text, text.replace(tags(task.format)[3], ""), text.replace("<answer>\n\n</answer>", block * 2)))
    return text


def drawn(rng: random.Random, rows: Sequence[TrainingRow], count: int) -> list[tuple[list[int], list[str]]]:
    """Batches of completions: the positions of their rows, and their texts."""
    batches = []
    for _ in range(-(-count // BATCH)):
        places = [rng.randrange(len(rows)) for _ in range(BATCH)]
        batches.append((places, [written(rng, rows[place], rng.sample(alike(rows, place), 2)) for place in places]))
    return batches


def alike(rows: Sequence[TrainingRow], place: int) -> list[TrainingRow]:
    """Other rows of the same task."""
    return [row for row in rows if row.task is rows[place].task and row is not rows[place]]


def one_round(rewards: RewardSet, rows: Sequence[TrainingRow], batches: Sequence[tuple[list[int], list[str]]]) -> float:
    """Processor seconds in which all rewards score all batches, as a trainer has them scored."""
    functions = rewards.functions(rows, {EOS}, "")
    ids = [[0] * (TOKENS - 1) + [EOS]] * BATCH
    logged: list[Any] = []
    gc.collect()
    start = time.process_time()
    for places, texts in batches:
        completions = [[{"role": "assistant", "content": text}] for text in texts]
        for function in functions:
            function(
                prompts=None,
                completions=completions,
                completion_ids=ids[: len(texts)],
                row=places,
                trainer_state=None,
                log_extra=None,
                log_metric=lambda name, value: logged.append((name, value)),
            )
    return time.process_time() - start


def plainly(rows: Sequence[TrainingRow], batches: Sequence[tuple[list[int], list[str]]]) -> float:
    """Processor seconds of the five functions of `plain_trl.py`, written by hand for the first case."""
    functions = (
        plain_trl.xml_count,
        plain_trl.soft_format,
        plain_trl.strict_format,
        plain_trl.integer_answer,
        plain_trl.correctness,
    )
    gc.collect()
    start = time.process_time()
    for places, texts in batches:
        columns = {
            "completions": [[{"role": "assistant", "content": text}] for text in texts],
            "gold": [rows[place].example.gold for place in places],
            "numeric": [rows[place].task.answers.numeric for place in places],
        }
        for function in functions:
            function(**columns)
    return time.process_time() - start


def main() -> None:
    """Time every case and write a line for it."""
    parser = options(__doc__)
    parser.add_argument("--completions", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    count, rounds = (128, 1) if chosen.tiny else (chosen.completions, chosen.rounds)
    plain: list[float] = []
    for case in CASES:
        small = ("source=embedded", "hardware=cpu", "data_mix.rows=256", "source.train_rows=256", "source.test_rows=8")
        run = build.check(compose.tree([*small, *case.overrides]))
        rows = run.data_mix.draw(run.source, 0, None).rows
        taken = []
        for number in range(rounds):
            batches = drawn(random.Random(number), rows, count)
            completions = sum(len(texts) for _, texts in batches)
            taken.append(one_round(run.reward_set, rows, batches) / completions)
            if case is CASES[0]:
                plain.append(plainly(rows, batches) / completions)
        figures = {"completions_a_second": 1 / min(taken), "plain_completions_a_second": 1 / min(plain)}
        setting = f"tiny {case.name}" if chosen.tiny else case.name
        write(chosen.out, "rewards", setting, figures, min(taken) / min(plain), None)


if __name__ == "__main__":
    main()
