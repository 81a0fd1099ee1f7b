"""How a machine and a cluster are divided into slots."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msd_sweeps.plan import slots as placement
from msd_sweeps.plan.slots import Packing
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.sections import Resources


def resources(**fields) -> Resources:
    return Resources.model_validate_json(json.dumps(fields))


def plan_slots(wanted, nodes, trials):
    return placement.plan_slots(wanted, nodes, trials, Packing(8, 2**20))


def cpus(*counts: int) -> list[dict[str, float]]:
    return [{"CPU": count} for count in counts]


AUTO = st.just("auto")
NODES = st.lists(
    st.fixed_dictionaries({"CPU": st.integers(0, 20)}, optional={"GPU": st.integers(0, 4)}), min_size=1, max_size=5
)


def fits(plan, nodes) -> bool:
    """Whether workers can be put on nodes one after the other, each with all that it gets."""
    left = [dict(node) for node in nodes]
    for _ in range(plan.slots * plan.num_workers):
        for node in left:
            if all(node.get(name, 0) >= amount - 1e-6 for name, amount in plan.per_worker.items()):
                for name, amount in plan.per_worker.items():
                    node[name] -= amount
                break
        else:
            return False
    return True


@settings(max_examples=300, deadline=None)
@given(
    workers=st.integers(1, 4),
    pack=st.integers(1, 9) | AUTO,
    asked=st.integers(1, 4) | AUTO,
    threads=st.integers(1, 4) | AUTO,
    use_gpu=st.booleans() | AUTO,
    gpu=st.sampled_from([None, 0.5, 1, 2]),
    nodes=NODES,
    trials=st.integers(1, 100),
)
def test_slots_never_ask_for_more_than_there_is(workers, pack, asked, threads, use_gpu, gpu, nodes, trials):
    each = {} if gpu is None or use_gpu is False else {"GPU": gpu}
    wanted = resources(
        num_workers=workers, pack=pack, slots=asked, cpus_per_worker=threads, use_gpu=use_gpu, resources_per_worker=each
    )
    try:
        plan = plan_slots(wanted, nodes, trials)
    except InputError as error:
        message = str(error)
    else:
        message = ""
    if message:
        assert message.startswith("resources")
        assert "have " in message or "there is room for" in message
        return
    assert fits(plan, nodes)
    assert plan.slots_on(nodes) == plan.slots >= 1
    assert 1 <= plan.pack <= trials
    assert plan.num_workers == workers
    for given_value, planned in ((pack, plan.pack), (asked, plan.slots), (threads, plan.threads)):
        assert given_value in ("auto", planned) or (given_value is pack and planned == trials)
    if use_gpu is not False and (each or any(node.get("GPU") for node in nodes)):
        assert plan.on_gpu


@pytest.mark.parametrize("count", [1, 2, 3, 4, 16, 64])
def test_a_machine_without_gpus_always_has_room_for_the_default(count):
    plan = plan_slots(Resources(), cpus(count), 20)
    assert plan.slots * plan.threads <= count
    assert plan.slots * plan.pack >= min(20, 8)


@pytest.mark.parametrize(
    ("counts", "slots", "threads"),
    [([1, 1], 2, 1), ([2, 2], 2, 2), ([0, 8, 8], 2, 8), ([2, 8], 5, 2), ([16], 2, 8), ([3], 1, 3)],
)
def test_every_cpu_of_every_node_is_used(counts, slots, threads):
    plan = plan_slots(Resources(), cpus(*counts), 1000)
    assert (plan.slots, plan.threads) == (slots, threads)


@pytest.mark.parametrize(
    ("asked", "slots", "threads", "pack"),
    [
        ({}, 2, 6, 12),  # two students for each thread: eight make the teacher cheap enough
        ({"pack": 1}, 12, 1, 1),
        ({"pack": 4}, 3, 4, 4),
        ({"pack": 1, "threads_per_student": 3}, 4, 3, 1),
        ({"threads_per_student": 2}, 2, 6, 9),
        ({"threads_per_student": 12}, 1, 12, 8),
        ({"cpus_per_worker": 6, "num_workers": 2}, 1, 6, 8),  # the ranks of a student step together
    ],
)
def test_students_step_side_by_side_on_all_cores(asked, slots, threads, pack):
    plan = plan_slots(resources(**asked), cpus(12), 100)
    assert (plan.slots, plan.threads) == (slots, threads)
    assert plan_slots(resources(slots=1, **asked), cpus(12), 100).pack == pack


def test_a_worker_has_room_for_one_student():
    with pytest.raises(InputError, match=r"threads_per_student: 4 threads for a student, a worker has 2 CPUs"):
        plan_slots(resources(threads_per_student=4), cpus(2), 10)


def test_every_gpu_gets_a_slot_and_shares_of_one_get_several():
    assert plan_slots(Resources(), [{"CPU": 16, "GPU": 4}], 1000).slots == 4
    shared = resources(resources_per_worker={"GPU": 0.25, "CPU": 1})
    assert plan_slots(shared, [{"CPU": 16, "GPU": 1}] * 2, 1000).slots == 8


def test_slots_follow_the_cluster_as_it_grows_and_shrinks_but_not_beyond_the_trials():
    plan = plan_slots(resources(pack=2, cpus_per_worker=1), cpus(1), 5)
    assert [plan.slots_on(cpus(*counts)) for counts in ([], [1], [1, 1], [2, 4])] == [0, 1, 2, 3]


def test_only_nodes_of_the_wanted_kind_count():
    nodes = [{"CPU": 8, "GPU": 1, "accelerator_type:T4": 1}, {"CPU": 8, "GPU": 2, "accelerator_type:H100": 1}]
    assert plan_slots(resources(accelerator_type="H100"), nodes, 100).slots == 2
    with pytest.raises(InputError, match="only nodes with A100 count, there are H100, T4"):
        plan_slots(resources(accelerator_type="A100"), nodes, 100)


def test_strict_strategies_keep_workers_together_or_apart():
    both = {"num_workers": 2, "cpus_per_worker": 1}
    together, apart = (resources(**both, placement_strategy=f"STRICT_{name}") for name in ("PACK", "SPREAD"))
    assert plan_slots(resources(**both), cpus(3, 3), 100).slots == 3
    assert plan_slots(together, cpus(3, 3), 100).slots == 2
    assert plan_slots(apart, cpus(3, 1), 100).slots == 1
    for wanted, counts in ((together, (1, 1)), (apart, (2,))):
        with pytest.raises(InputError, match="2 workers x 1 CPUs need 2 CPUs, have 2"):
            plan_slots(wanted, cpus(*counts), 100)


@pytest.mark.parametrize(
    ("fields", "nodes", "says"),
    [
        ({"use_gpu": True}, [{"CPU": 4}], "1 workers need 1 GPUs (one each), have 0"),
        ({"num_workers": 4}, [{"CPU": 64, "GPU": 2}], "4 workers need 4 GPUs (one each), have 2"),
        ({"num_workers": 3}, cpus(2), "3 workers x 1 CPUs need 3 CPUs, have 2"),
        ({"cpus_per_worker": 8}, cpus(4), "1 workers x 8 CPUs need 8 CPUs, have 4"),
        ({"cpus_per_worker": 3}, cpus(2, 2), "1 workers x 3 CPUs need 3 CPUs, have 4 on 2 nodes (2 CPUs; 2 CPUs)"),
        ({"slots": 3, "cpus_per_worker": 1}, cpus(2), "3 slots of 1 x 1 CPUs asked for, there is room for 2"),
        (
            {"slots": 3, "cpus_per_worker": 1},
            [{"CPU": 64, "GPU": 2}],
            "3 slots of 1 x 1 CPUs and 1 GPUs asked for, there is room for 2",
        ),
        ({"resources_per_worker": {"licence": 2}}, cpus(2), "need 2 licence, have 0"),
    ],
)
def test_what_is_impossible_is_told_with_need_and_have(fields, nodes, says):
    with pytest.raises(InputError, match=r"^resources") as error:
        plan_slots(resources(**fields), nodes, 10)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"resources_per_worker": {"CPU": 1}, "cpus_per_worker": 1}, "keep one of them"),
        ({"resources_per_worker": {"CPU": 0.5}}, "CPU is a whole number"),
        ({"resources_per_worker": {"GPU": 1}, "use_gpu": False}, "use_gpu is false"),
        ({"resources_per_worker": {"GPU": 1.5}}, "GPU is a whole number"),
        ({"resources_per_worker": {"GPU": 0}}, "greater than 0"),
    ],
)
def test_what_contradicts_itself_is_refused(fields, says):
    with pytest.raises(ValueError, match=says):
        resources(**fields)
