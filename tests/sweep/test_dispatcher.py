"""Which slot runs which trial: the dispatcher by itself, without Ray."""

import asyncio
from collections.abc import Callable, Coroutine
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msd_sweeps.records.trial_record import EpochResult
from msd_sweeps.sweep import worker_groups
from msd_sweeps.sweep.dispatcher import Dispatcher
from msd_sweeps.sweep.job import Job
from msd_sweeps.sweep.worker_groups import WorkerGroups
from tests.sweep.life import NO_INPUTS


def job(trial: str, stream: str = "k", folder="/nowhere", **fields) -> Job:
    return Job(trial, "{}", stream, folder, NO_INPUTS, **fields)


def result(trial: str, epoch: int, state: str = "running") -> EpochResult:
    return EpochResult(trial, state, epoch, 1.0)


def play(scene: Callable[[Dispatcher], Coroutine], pack: int = 2) -> None:
    """Run a scene with a dispatcher that one slot, 0, has entered; it hangs no longer than a few seconds."""

    async def run() -> None:
        dispatcher = Dispatcher(pack)
        await dispatcher.enter(0)
        await asyncio.wait_for(scene(dispatcher), 5)

    asyncio.run(run())


async def names(dispatcher: Dispatcher, slot: int = 0, stream: str | None = None, live=()) -> list[str]:
    """Trials that a slot is told to admit."""
    orders = await dispatcher.orders(slot, stream, list(live), 0.05)
    return [job.trial for job in orders.admit]


# --- seats


def test_trials_that_begin_together_start_together():
    async def scene(dispatcher):
        waiting = asyncio.create_task(names(dispatcher))
        await asyncio.sleep(0.01)
        await dispatcher.answer([], [job(name) for name in "abcd"], [])
        assert await waiting == ["a", "b", "c"]

    play(scene, pack=3)


def test_a_slot_takes_as_many_as_share_it_in_the_order_they_came():
    async def scene(dispatcher):
        for name in "abc":
            await dispatcher.answer([], [job(name)], [])
        assert await names(dispatcher) == ["a", "b"]
        assert await names(dispatcher, stream="k", live="ab") == []
        await dispatcher.report(0, [result("a", 1, "finished")])
        assert await names(dispatcher, stream="k", live="b") == ["c"]

    play(scene)


def test_only_trials_of_one_stream_share_a_slot():
    async def scene(dispatcher):
        for name, key in (("a", "k"), ("b", "other"), ("c", "k"), ("d", "other")):
            await dispatcher.answer([], [job(name, key)], [])
        assert await names(dispatcher) == ["a", "c"]
        assert await names(dispatcher, stream="k", live="a") == []  # others wait for the slot to turn
        orders = await dispatcher.orders(0, "k", [], 0.05)
        assert [job.trial for job in orders.admit] == ["b", "d"]

    play(scene, pack=3)


def test_a_resumed_trial_joins_at_once_and_fresh_ones_only_together():
    async def scene(dispatcher):
        await dispatcher.answer([], [job("resumed", reported=4), job("a")], [])
        assert await names(dispatcher, stream="k", live="uvwxyz") == ["resumed", "a"]
        await dispatcher.answer([], [job("again", reported=2), job("b")], [])
        assert await names(dispatcher, stream="k", live="tuvwxyz") == ["again"]
        assert await names(dispatcher, stream="k", live="uvwxyz") == ["b"]

    play(scene, pack=8)


def test_an_idle_slot_asks_again_after_a_while():
    async def scene(dispatcher):
        orders = await dispatcher.orders(0, None, [], 0.01)
        assert orders == ([], [], False)

    play(scene)


def test_two_slots_share_the_queue_and_no_trial_is_seated_twice():
    async def scene(dispatcher):
        await dispatcher.enter(1)
        for name in "abcde":
            await dispatcher.answer([], [job(name)], [])
        first, second = await names(dispatcher, slot=0), await names(dispatcher, slot=1)
        assert first + second == ["a", "b", "c", "d"]
        await dispatcher.report(1, [result("c", 1, "finished")])
        assert await names(dispatcher, slot=1, stream="k", live="d") == ["e"]

    play(scene)


# --- results


def test_results_arrive_in_order_and_each_epoch_once():
    async def scene(dispatcher):
        await dispatcher.answer([], [job("a", reported=1)], [])
        await names(dispatcher)
        await dispatcher.report(0, [result("a", epoch) for epoch in (1, 2, 2, 3)])
        await dispatcher.report(0, [result("a", 4, "finished")])
        found = [await dispatcher.next_result("a", 1, 1) for _ in range(3)]
        assert [(one.epoch, one.state, one.slot, one.attempt) for one in found] == [
            (2, "running", 0, 1),
            (3, "running", 0, 1),
            (4, "finished", 0, 1),
        ]
        assert dispatcher.results == {}
        assert dispatcher.seated == {0: {}}

    play(scene)


def test_without_a_result_nothing_is_given_after_the_time():
    async def scene(dispatcher):
        await dispatcher.answer([], [job("a")], [])
        assert await dispatcher.next_result("a", 1, 0.01) is None
        await names(dispatcher)
        await dispatcher.report(0, [result("a", 1)])
        assert (await dispatcher.next_result("a", 1, 1)).epoch == 1

    play(scene)


def test_one_trials_failure_leaves_the_others_seated():
    async def scene(dispatcher):
        await dispatcher.answer([], [job("a")], [])
        await dispatcher.answer([], [job("b")], [])
        await names(dispatcher)
        await dispatcher.report(0, [result("a", 0, "failed"), result("b", 1)])
        assert (await dispatcher.next_result("a", 1, 1)).state == "failed"
        assert (await dispatcher.next_result("b", 1, 1)).state == "running"
        assert list(dispatcher.seated[0]) == ["b"]

    play(scene)


# --- dropping


def test_a_waiting_trial_that_is_dropped_is_never_seated():
    async def scene(dispatcher):
        await dispatcher.answer([], [job("a")], [])
        await dispatcher.answer([], [job("b")], [])
        await dispatcher.drop("a", 1)
        assert await names(dispatcher) == ["b"]
        assert dispatcher.dropped == set()

    play(scene)


def test_a_seated_trial_that_is_dropped_leaves_at_the_next_epoch_and_the_next_takes_its_seat():
    async def scene(dispatcher):
        for name in "abc":
            await dispatcher.answer([], [job(name)], [])
        await names(dispatcher)
        await dispatcher.drop("a", 1)
        await dispatcher.report(0, [result("a", 1), result("b", 1)])  # the epoch that was under way
        orders = await dispatcher.orders(0, "k", ["a", "b"], 0.05)
        assert orders.drop == ["a"]
        assert [job.trial for job in orders.admit] == ["c"]
        assert dispatcher.dropped == set()
        assert sorted(dispatcher.seated[0]) == ["b", "c"]

    play(scene)


def test_a_trial_that_is_dropped_while_its_workers_die_does_not_come_back():
    async def scene(dispatcher):
        await dispatcher.answer([], [job("a")], [])
        await dispatcher.answer([], [job("b")], [])
        await names(dispatcher)
        await dispatcher.drop("a", 1)
        await dispatcher.enter(0)
        assert await names(dispatcher) == ["b"]

    play(scene)


# --- launched once more, after the actor that passed the results on has died


def test_a_later_launch_takes_the_place_of_one_that_waits():
    async def scene(dispatcher):
        await dispatcher.answer([], [job("a")], [])
        await dispatcher.answer([], [job("a", submission=2, attempt=2)], [])
        assert [one.submission for one in dispatcher.waiting] == [2]

    play(scene)


@pytest.mark.parametrize("drop_comes_late", [False, True])
def test_a_later_launch_goes_on_where_the_one_before_is_let_go(drop_comes_late):
    async def scene(dispatcher):
        await dispatcher.answer([], [job("a")], [])
        await names(dispatcher)
        if not drop_comes_late:
            await dispatcher.drop("a", 1)
        await dispatcher.answer([], [job("a", submission=2, attempt=2)], [])
        await dispatcher.drop("a", 1)
        await dispatcher.enter(1)
        assert await names(dispatcher, slot=1) == ["a"]
        await dispatcher.report(0, [result("a", 1)])  # of the launch before
        assert (await dispatcher.orders(0, "k", ["a"], 0.01)).drop == ["a"]
        assert (await dispatcher.orders(1, "k", ["a"], 0.01)).drop == []
        await dispatcher.report(1, [result("a", 1)])
        told = await dispatcher.next_result("a", 2, 1)
        assert (told.slot, told.attempt) == (1, 2)
        assert not dispatcher.dropped

    play(scene)


def test_a_slot_changes_a_launch_for_the_next_at_once():
    async def scene(dispatcher):
        await dispatcher.answer([], [job("a")], [])
        await names(dispatcher)
        await dispatcher.answer([], [job("a", submission=2)], [])
        orders = await dispatcher.orders(0, "k", ["a"], 0.01)
        assert (orders.drop, [one.submission for one in orders.admit]) == (["a"], [2])

    play(scene)


def test_a_trial_that_ends_while_it_is_let_go_leaves_nothing_behind():
    async def scene(dispatcher):
        await dispatcher.answer([], [job("a")], [])
        await names(dispatcher)
        await dispatcher.drop("a", 1)
        await dispatcher.report(0, [result("a", 1, "finished")])
        assert (dispatcher.seated, dispatcher.dropped, dispatcher.results) == ({0: {}}, set(), {})

    play(scene)


def test_results_can_be_asked_for_before_the_trial_is_submitted():
    async def scene(dispatcher):
        told = asyncio.create_task(dispatcher.next_result("a", 1, 5))
        await asyncio.sleep(0.01)
        await dispatcher.answer([], [job("a")], [])
        await names(dispatcher)
        await dispatcher.report(0, [result("a", 1)])
        assert (await told).epoch == 1

    play(scene)


# --- workers that die


def test_what_a_dead_slot_ran_comes_first_again_with_the_next_attempt():
    async def scene(dispatcher):
        await dispatcher.answer([], [job(name) for name in "abc"], [])
        await names(dispatcher)
        await dispatcher.report(0, [result("a", 1), result("b", 1)])
        await dispatcher.enter(0)  # its workers were started again
        assert [(one.trial, one.attempt, one.reported) for one in dispatcher.waiting] == [
            ("a", 2, 1),
            ("b", 2, 1),
            ("c", 1, 0),
        ]
        assert await names(dispatcher) == ["a", "b"]
        await dispatcher.report(0, [result("a", 2)])
        assert [(await dispatcher.next_result("a", 1, 1)).attempt for _ in range(2)] == [1, 2]

    play(scene)


async def die(dispatcher: Dispatcher, slot: int = 0) -> None:
    """The slot's workers die, and start again."""
    await dispatcher.vacate(slot, "controller")
    await dispatcher.enter(slot)


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_a_trial_whose_workers_keep_dying_is_given_up(limit):
    async def scene(dispatcher):
        dispatcher.max_failures = limit
        await dispatcher.answer([], [job("a")], [])
        for _ in range(limit + 1):
            assert await names(dispatcher) == ["a"]
            await die(dispatcher)
        assert await names(dispatcher) == []
        told = await dispatcher.next_result("a", 1, 1)
        assert (told.state, told.reason) == ("failed", f"its workers died {limit + 1} times without progress")

    play(scene)


def test_deaths_with_progress_in_between_are_no_failures():
    async def scene(dispatcher):
        await dispatcher.answer([], [job("a"), job("b")], [])
        for epoch in range(1, 10):
            assert await names(dispatcher) == ["a", "b"]
            await dispatcher.report(0, [result("a", epoch), result("b", epoch)])
            await dispatcher.answer([one.number for one in (await dispatcher.take())[0]], [], [])
            await die(dispatcher)
        await names(dispatcher)
        await dispatcher.report(0, [result("a", 9, "finished"), result("b", 9, "finished")])
        for name in "ab":
            told = [await dispatcher.next_result(name, 1, 1) for _ in range(10)]
            assert (told[-1].state, told[-1].attempt) == ("finished", 10)

    play(scene)


def test_lost_nodes_and_workers_that_are_replaced_are_no_failures():
    async def scene(dispatcher):
        dispatcher.max_failures = 0
        await dispatcher.answer([], [job("a"), job("b")], [])
        for count in range(10):
            assert await names(dispatcher) == ["a", "b"], count
            if count % 2:
                await dispatcher.vacate(0, "controller", False)
                await dispatcher.enter(0)
            else:
                await dispatcher.enter(0, False)

    play(scene)


async def train(dispatcher: Dispatcher, kills: Callable[[list[str]], bool]) -> list[str]:
    """Let the slot train trials of three epochs to their end; the names of those that were together in each epoch.

    kills: whether the slot's workers die in an epoch of these trials.
    """
    groups: list[str] = []
    epochs: dict[str, int] = {}
    live: list[str] = []
    for _ in range(60):
        orders = await dispatcher.orders(0, "k", live, 0.01)
        epochs |= {one.trial: one.reported for one in orders.admit}
        live = [name for name in live if name not in orders.drop] + [one.trial for one in orders.admit]
        if not live:
            return groups
        groups.append("".join(live))
        if kills(live):
            await die(dispatcher)
            live = []
            continue
        epochs |= {name: epochs[name] + 1 for name in live}
        await dispatcher.report(
            0, [result(name, epochs[name], "finished" if epochs[name] == 3 else "running") for name in live]
        )
        await dispatcher.answer([one.number for one in (await dispatcher.take())[0]], [], [])
        live = [name for name in live if epochs[name] < 3]
    raise AssertionError("it never ends")


@pytest.mark.parametrize(("limit", "together", "alone"), [(0, 1, 1), (1, 2, 1), (3, 2, 2)])
def test_only_the_trial_at_fault_is_given_up(limit, together, alone):
    """Trial b takes its slot along whenever it is trained; every other trial learns."""

    async def scene(dispatcher):
        dispatcher.max_failures = limit
        await dispatcher.answer([], [job(name) for name in "abcdef"], [])
        groups = await train(dispatcher, lambda live: "b" in live)
        assert groups[: together + 1 + alone] == ["abcd"] * together + ["a"] + ["b"] * alone
        assert groups[together + 1 + alone :][:2] == ["c", "d"]
        told = await dispatcher.next_result("b", 1, 1)
        assert (told.state, told.reason) == ("failed", f"its workers died {together + alone} times without progress")
        for name in "acdef":
            told = [await dispatcher.next_result(name, 1, 1) for _ in range(3)]
            assert [(one.epoch, one.state) for one in told] == [(1, "running"), (2, "running"), (3, "finished")]
        assert (dispatcher.waiting, dispatcher.dropped, dispatcher.results) == ([], set(), {})

    play(scene, pack=4)


def test_students_that_fit_into_memory_only_one_by_one_all_finish():
    """Suspects that learn alone share a slot again; those that come under suspicion once more do not."""

    async def scene(dispatcher):
        dispatcher.max_failures = 1
        await dispatcher.answer([], [job(name) for name in "abc"], [])
        groups = await train(dispatcher, lambda live: len(live) > 1)
        assert sum(len(group) > 1 for group in groups) == 4
        for name in "abc":
            told = [await dispatcher.next_result(name, 1, 1) for _ in range(3)]
            assert [(one.epoch, one.state) for one in told] == [(1, "running"), (2, "running"), (3, "finished")]

    play(scene, pack=3)


def test_other_slots_take_a_suspect_only_when_they_are_empty():
    async def scene(dispatcher):
        await dispatcher.answer([], [job("a"), job("b")], [])
        for _ in range(2):
            await names(dispatcher)
            await die(dispatcher)
        await dispatcher.enter(1)
        dispatcher.waiting.insert(0, job("c"))
        assert await names(dispatcher, slot=1) == ["c"]
        assert await names(dispatcher, slot=1, stream="k", live="c") == []
        assert await names(dispatcher, slot=0) == ["a"]
        await dispatcher.report(1, [result("c", 1, "finished")])
        assert await names(dispatcher, slot=1, stream="k") == ["b"]

    play(scene)


def test_what_a_lost_host_ran_goes_to_the_other_slots_and_its_ghost_is_sent_home():
    async def scene(dispatcher):
        await dispatcher.enter(1)
        await dispatcher.answer([], [job("a")], [])
        assert await names(dispatcher, slot=0) == ["a"]
        await dispatcher.vacate(0, "controller")
        assert await names(dispatcher, slot=1) == ["a"]
        await dispatcher.report(0, [result("a", 1)])  # the ghost's: nobody's
        assert await dispatcher.next_result("a", 1, 0.01) is None
        assert (await dispatcher.orders(0, "k", ["a"], 60)) == ([], ["a"], True)
        assert await dispatcher.close() == ["controller"]

    play(scene)


def test_a_question_that_a_lost_host_left_behind_takes_no_trial():
    """Idle workers wait inside the dispatcher for up to a minute; their host may go meanwhile, and come back."""

    async def scene(dispatcher):
        ghost = asyncio.create_task(dispatcher.orders(0, None, [], 60))
        await asyncio.sleep(0.01)
        await dispatcher.vacate(0, "controller")
        await dispatcher.enter(0)
        await dispatcher.answer([], [job("a")], [])
        assert (await ghost).close
        assert await names(dispatcher, slot=0) == ["a"]

    play(scene)


def test_a_slot_that_may_come_back_keeps_the_sweep_from_failing():
    async def scene(dispatcher):
        await dispatcher.enter(1)
        await dispatcher.answer([], [job("a")], [])
        await dispatcher.vacate(0, "controller")
        await dispatcher.leave(1, "slot 1 ended: out of luck")
        await dispatcher.enter(0)
        assert await names(dispatcher, slot=0) == ["a"]

    play(scene)


def test_when_a_slot_ends_the_others_take_over():
    async def scene(dispatcher):
        await dispatcher.enter(1)
        await dispatcher.answer([], [job("a")], [])
        assert await names(dispatcher, slot=0) == ["a"]
        await dispatcher.leave(0, "slot 0 ended: out of luck")
        assert await names(dispatcher, slot=1) == ["a"]

    play(scene)


def test_when_the_last_slot_fails_every_trial_is_told_so():
    async def scene(dispatcher):
        await dispatcher.answer([], [job("a")], [])
        await dispatcher.answer([], [job("b")], [])
        await names(dispatcher)
        await dispatcher.leave(0, "slot 0 ended: no such device")
        await dispatcher.answer([], [job("late")], [])
        for name in ("a", "b", "late"):
            told = await dispatcher.next_result(name, 1, 1)
            assert (told.state, told.reason) == ("failed", "slot 0 ended: no such device")

    play(scene)


def test_a_slot_whose_disk_is_full_breaks_everything_off():
    async def scene(dispatcher):
        await dispatcher.enter(1)
        for name in "abcde":
            await dispatcher.answer([], [job(name)], [])
        await names(dispatcher, slot=0)
        await names(dispatcher, slot=1)
        await dispatcher.give_up(0, "disk full")
        await dispatcher.report(1, [result("c", 1)])  # an epoch that was under way
        for name in "abcde":
            told = await dispatcher.next_result(name, 1, 1)
            assert (told.state, told.reason) == ("interrupted", "disk full")
        assert (await dispatcher.orders(1, "k", ["c", "d"], 60)).close

    play(scene)


# --- rounds


def test_a_round_is_taken_whole_and_once():
    async def scene(dispatcher):
        await dispatcher.answer([], [job("a"), job("b")], [])
        await names(dispatcher)
        await dispatcher.report(0, [result("a", 1), result("b", 1)])
        (taken,), _ = await dispatcher.take()
        assert [one.trial for one in taken.results] == ["a", "b"]
        assert await dispatcher.take() == ([], set())


def test_the_driver_hears_which_trials_wait_for_a_seat():
    async def scene(dispatcher):
        await dispatcher.answer([], [job(name) for name in "abcdef"], [])
        seated = await names(dispatcher)
        assert await dispatcher.take() == ([], set("abcdef") - set(seated))
        assert 0 < len(seated) < 6

    play(scene)


def test_a_slot_whose_workers_died_too_often_goes_on_where_it_made_progress_in_between(monkeypatch):
    """Ray Train ends a slot after a hundred deaths, whatever it has trained in between."""
    dispatcher, fits = Dispatcher(2), []

    def fit(slot):
        fits.append(slot)
        if len(fits) < 3:
            asyncio.run(dispatcher.report(slot, [result("a", len(fits))]))
        raise RuntimeError("its workers died")

    async def begin():
        await dispatcher.enter(0)
        await dispatcher.answer([], [job("a")], [])
        return await names(dispatcher)

    def called(method):
        return SimpleNamespace(remote=lambda *arguments: asyncio.run(method(*arguments)))

    handle = SimpleNamespace(has_progressed=called(dispatcher.has_progressed), leave=called(dispatcher.leave))
    monkeypatch.setattr(worker_groups.ray, "get", lambda value: value)
    monkeypatch.setattr(WorkerGroups, "_trainer", lambda self, slot: SimpleNamespace(fit=lambda: fit(slot)))
    assert asyncio.run(begin()) == ["a"]
    WorkerGroups(SimpleNamespace(slots=0), handle, None)._hold(0)
    assert fits == [0, 0, 0]
    assert dispatcher.failure == "slot 0 ended: RuntimeError: its workers died"


def test_a_slot_waits_where_a_search_decides_and_is_else_one_round_ahead():
    async def scene(dispatcher):
        await dispatcher.answer([], [job("a", rungs=(3,)), job("b")], [])
        await names(dispatcher)
        for epoch in (1, 2, 3):
            await dispatcher.report(0, [result("a", epoch), result("b", epoch)])
            orders = asyncio.create_task(dispatcher.orders(0, "k", ["a", "b"], 60))
            await asyncio.sleep(0.01)
            assert orders.done() == (epoch == 1), epoch
            if epoch > 1:
                rounds, _ = await dispatcher.take()
                await asyncio.sleep(0.01)
                assert not orders.done()
                stopped = [job("a")] if epoch == 3 else []
                await dispatcher.answer([one.number for one in rounds], [job("c")] if stopped else [], stopped)
            answer = await orders
        assert (answer.drop, [one.trial for one in answer.admit]) == (["a"], ["c"])
        told = [await dispatcher.next_result("a", 1, 1) for _ in range(4)]
        assert [one.state for one in told] == ["running"] * 3 + ["stopped"]

    play(scene)


@pytest.mark.parametrize("state", ["finished", "diverged"])
def test_a_slot_waits_after_the_end_of_a_trial_of_a_search_alone(state):
    async def scene(dispatcher):
        await dispatcher.answer([], [job("a", rungs=()), job("b")], [])
        await names(dispatcher)
        await dispatcher.report(0, [result("b", 1, state)])
        assert await names(dispatcher, stream="k", live="a") == []
        await dispatcher.report(0, [result("a", 1, state)])
        waiting = asyncio.create_task(dispatcher.orders(0, "k", [], 0.01))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await dispatcher.close()
        assert (await waiting).close

    play(scene)


# --- the end


@pytest.mark.parametrize("live", [[], ["a"]])
def test_closing_sends_slots_home(live):
    async def scene(dispatcher):
        await dispatcher.answer([], [job("a")], [])
        await names(dispatcher)
        await dispatcher.close()
        assert (await dispatcher.orders(0, "k", live, 60)).close

    play(scene)


def test_closing_wakes_a_slot_that_waits():
    async def scene(dispatcher):
        waiting = asyncio.create_task(dispatcher.orders(0, None, [], 60))
        await asyncio.sleep(0.01)
        await dispatcher.close()
        assert (await waiting).close

    play(scene)


# --- any course of events

EVENTS = st.sampled_from(["submit", "submit", "run", "run", "run", "drop", "again", "die"])


@settings(max_examples=60, deadline=None)
@given(
    events=st.lists(st.tuples(EVENTS, st.integers(0, 99)), max_size=60), pack=st.integers(1, 3), count=st.integers(1, 3)
)
def test_whatever_happens_every_trial_ends_once_and_seats_are_kept(events, pack, count):
    """Slots run trials of three epochs; trials come, are dropped, are launched once more, and workers die."""

    async def scene(dispatcher: Dispatcher) -> None:
        cohorts: dict[int, dict] = {}
        ended: set[str] = set()

        async def start(slot: int) -> None:
            await dispatcher.enter(slot)
            cohorts[slot] = {"key": None, "live": {}}

        async def run(slot: int) -> None:
            cohort = cohorts[slot]
            orders = await dispatcher.orders(slot, cohort["key"], list(cohort["live"]), 0.001)
            for name in orders.drop:
                del cohort["live"][name]
            for one in orders.admit:
                cohort["live"][one.trial] = one.reported
                cohort["key"] = one.stream
            assert len(cohort["live"]) <= pack
            assert set(dispatcher.seated[slot]) >= set(cohort["live"])
            everyone = [
                name
                for other, of_other in cohorts.items()
                for name in of_other["live"]
                if (other, name) not in dispatcher.dropped
            ]
            assert len(everyone) == len(set(everyone))
            assert {name[0] for name in cohort["live"]} <= {cohort["key"]}
            results = []
            for name in list(cohort["live"]):
                cohort["live"][name] += 1
                done = cohort["live"][name] == 3
                results.append(result(name, cohort["live"][name], "finished" if done else "running"))
                if done:
                    del cohort["live"][name]
                    ended.add(name)
            await dispatcher.report(slot, results)
            await dispatcher.answer([one.number for one in (await dispatcher.take())[0]], [], [])

        for slot in range(count):
            await start(slot)
        submitted: list[str] = []
        launches: dict[str, int] = {}
        dropped: set[str] = set()
        for event, pick in events:
            if event == "submit":
                submitted.append(f"{'xy'[pick % 2]}{len(submitted)}")
                launches[submitted[-1]] = 1
                await dispatcher.answer([], [job(submitted[-1], submitted[-1][0])], [])
            elif event == "run":
                await run(pick % count)
            elif event == "drop" and submitted:
                name = submitted[pick % len(submitted)]
                dropped.add(name)
                await dispatcher.drop(name, launches[name])
            elif event == "again" and set(submitted) - dropped - ended:
                name = submitted[pick % len(submitted)]
                if name in dropped | ended:
                    continue
                launches[name] += 1
                calls = [
                    dispatcher.drop(name, launches[name] - 1),
                    dispatcher.answer([], [job(name, name[0], submission=launches[name])], []),
                ]
                for call in calls if pick % 2 else reversed(calls):
                    await call
            elif event == "die":
                await start(pick % count)
        for _ in range(4 * len(submitted) + 4):
            for slot in range(count):
                await run(slot)
        assert dispatcher.waiting == []
        assert not any(dispatcher.seated.values())
        assert dispatcher.dropped == set()
        for name in set(submitted) - dropped:
            epochs = []
            while (name, launches[name]) in dispatcher.results:
                told = await dispatcher.next_result(name, launches[name], 0.01)
                assert told is not None, "a trial that nobody drops has an end"
                epochs.append(told.epoch)
            assert told.state in ("finished", "failed")
            assert epochs == sorted(set(epochs)) or told.state == "failed"

    async def main() -> None:
        await asyncio.wait_for(scene(Dispatcher(pack)), 20)

    asyncio.run(main())
