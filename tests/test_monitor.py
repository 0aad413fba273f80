"""A second judge: what it says is kept and shown, and training stops where it and the first one part."""

import json
from dataclasses import replace

import pytest
from loopback_judge import LoopbackJudge
from test_pairs import job_of

from medrl.config import schema
from medrl.config.build import check
from medrl.errors import UserError
from medrl.files import read_jsonl
from medrl.grading.judges import monitor
from medrl.report import charts
from medrl.rewards.base import Completion
from medrl.training import checkpoints, second_judge

JUDGED = (
    "data_mix=medical_o1_verifiable", "reward_set=xr1", "source.train_rows=60", "source.test_rows=4", "data_mix.rows=16",
    "algo.max_steps=6", "algo.batch_size=8", "algo.num_generations=4", "algo.max_completion_tokens=64", "algo.save_steps=100",
    "+monitor@reward_set.monitor=second_judge", "reward_set.monitor.judge.api_key_env=null", "reward_set.monitor.steps=1",
    "reward_set.monitor.window=2", "reward_set.monitor.patience=1", "reward_set.monitor.completions=6",
)  # fmt: skip


class Changing(LoopbackJudge):
    """Says yes to everything, until it is told to say no."""

    verdict = True

    def says(self, asked):
        return json.dumps({"reason": "As it seems to me.", "same": self.verdict})


class Generous(LoopbackJudge):
    def says(self, asked):
        return json.dumps({"reason": "All is well.", "same": True})


@pytest.fixture(autouse=True)
def _verdicts_of_this_test(monkeypatch, tmp_path):
    monkeypatch.setenv("MEDRL_CACHE", str(tmp_path / "cache"))


def words(first, second):
    return (
        *JUDGED, "judge=openai", "judge.api_key_env=null", f"judge.base_url={first.url}",
        f"reward_set.monitor.judge.base_url={second.url}",
    )  # fmt: skip


def settings(compose, *more):
    return check(compose([*JUDGED, *more])).reward_set.monitor


def checks(*means, prompts=8):
    """Checks of so many prompts, by what the two judges pay; prompts differ a little."""
    return [
        monitor.check(
            step, [prompt for prompt in range(prompts) for _ in range(2)],
            [min(1, max(0, trained + 0.02 * (at % 3 - 1))) for at in range(2 * prompts)],
            [min(1, max(0, second + 0.02 * (at % 3 - 1))) for at in range(2 * prompts)],
        )
        for step, (trained, second) in enumerate(means, 1)
    ]  # fmt: skip


PARTING = [(0.4, 0.4), (0.5, 0.5), (0.6, 0.6), (0.7, 0.55), (0.8, 0.4), (0.9, 0.3)]


def test_judges_part_where_one_pays_more_and_the_other_less(compose):
    watched = settings(compose)
    assert watched.first_parted(checks(*PARTING))[0] == 5
    said = watched.parted(checks(*PARTING))
    assert "pays 0.35 of what can be paid, and paid 0.57; the judge that is trained on pays 0.85, and paid 0.65" in said
    assert "they are 0.43 [at least 0.3" in said


@pytest.mark.parametrize(
    "means",
    [
        PARTING[:4],
        [(0.4 + at / 10, 0.4 + at / 10) for at in range(6)],
        [(0.4 + at / 10, 0.2 + at / 20) for at in range(6)],  # both pay more: one is stricter
        [(0.8 - at / 10, 0.8 - at / 10) for at in range(6)],  # both pay less: no judge is pleased
        [(0.5, 0.5), (0.5, 0.5), (0.5, 0.5), (0.5, 0.46), (0.5, 0.46)],  # less than `most_apart`
    ],
)
def test_they_have_not_parted_otherwise(compose, means):
    assert not settings(compose).parted(checks(*means))


def test_patience_waits_and_one_good_check_begins_anew(compose):
    patient = settings(compose, "reward_set.monitor.patience=2")
    assert patient.first_parted(checks(*PARTING))[0] == 6
    assert not patient.parted(checks(*PARTING[:5], (0.6, 0.6), (0.9, 0.9)))


def test_noise_alone_does_not_part_them(compose):
    few = [monitor.check(step, [0, 1], [1.0, 0.0], [float(step < 3), 0.0]) for step in range(1, 6)]
    assert not settings(compose).parted(few)


def test_what_a_judge_left_open_is_counted_and_not_compared():
    found = monitor.check(3, ["a", "a", "b"], [1.0, None, 0.0], [0.0, 1.0, 0.0])
    assert (found["n"], found["abstained"], found["trained"], found["second"]) == (2, 1, 0.5, 0.0)
    assert found["prompts"] == [[1.0, 0.0], [0.0, 0.0]]
    assert monitor.check(3, ["a"], [None], [1.0])["kappa"] is None


def test_training_stops_with_a_checkpoint_and_goes_on_where_it_is_told_to(compose, tmp_path):
    """The first judge likes everything; the second one, too, and from the fifth step on nothing."""
    with Generous() as first, Changing() as second:
        job = job_of(compose([*words(first, second), "algo.max_steps=8"]), tmp_path / "train")
        turn, job = 4, replace(job, note=lambda: None)
        asked = job.run.reward_set.monitor.judge
        type(second).verdict = True

        class Turning(type(job.scored)):
            """Completions, whose fifth batch the second judge no longer likes."""

            batches = 0

            def __setitem__(self, at, made):
                super().__setitem__(at, made)
                self.batches += 1
                second.verdict = self.batches <= turn

        job = replace(job, scored=Turning())
        with pytest.raises(
            UserError, match=r"Stopped after step 6, with a checkpoint written: the second judge, .* pays 0.00"
        ) as stopped:
            job.run.algo.train(job, tmp_path / "model")
        assert "reward_set.monitor.action=warn" in str(stopped.value) and not (tmp_path / "model").exists()
        assert checkpoints.newest(job.folder).name == "checkpoint-6"
        lines = read_jsonl(job.folder / "log.jsonl")
        pay = [(line["monitor/trained"], line["monitor/second"]) for line in lines]
        assert all(trained == second > 0.3 for trained, second in pay[:4])
        assert all(trained > 0.3 and second == 0 for trained, second in pay[4:]) and len(pay) == 6
        assert charts.points(lines, "monitor/second")
        assert [line["n"] for line in read_jsonl(job.folder / second_judge.FILE)] == [6] * 6
        assert second_judge.of_folder(job.run, job.folder)["parted"]["step"] == 6
        resumed = replace(job, checkpoint=checkpoints.newest(job.folder))
        with pytest.raises(UserError, match="Stopped after step 6"):
            job.run.algo.train(resumed, tmp_path / "model")
        warned = replace(job.run.reward_set, monitor=replace(job.run.reward_set.monitor, action="warn"))
        resumed = replace(resumed, run=replace(job.run, reward_set=warned))
        job.run.algo.train(resumed, tmp_path / "model")
        assert (tmp_path / "model").exists() and len(read_jsonl(job.folder / "log.jsonl")) == 8
        assert asked.tally()["claims"] > 0


def test_the_second_judge_grades_the_same_words(compose, tmp_path):
    with Generous() as first, LoopbackJudge() as second:
        run = check(compose(words(first, second)))
        row = job_of(compose([*words(first, second)]), tmp_path).rows[0]
        written = [
            Completion(f"<think>\nx\n</think>\n<answer>\n{said}\n</answer>\n", row) for said in (row.example.gold, "no", "")
        ]
        assert run.reward_set.paid_by_judge(written) == [1.0, 1.0, 0.0]
        assert run.reward_set.paid_by_judge(written, run.reward_set.monitor.judge) == [1.0, 0.0, 0.0]


def test_it_is_no_part_of_the_id(compose):
    without = [word for word in JUDGED if "monitor" not in word]
    assert schema.run_id(check(compose(JUDGED))) == schema.run_id(check(compose(without)))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["algo=rejection_sampling"], "write algo=grpo, rloo or ppo"),
        (["data_mix=gsm8k"], "no judge pays here"),
        (["judge=openai", "judge.api_key_env=null"], "is the judge that pays"),
        (["reward_set.monitor.judge.base_url=nowhere"], "reward_set.monitor.judge.base_url"),
    ],
)
def test_mistakes(mistakes, more, message):
    assert message in str(mistakes(*JUDGED, *more))
