import pytest

from edgelr.compare.explain import grown_operators, host_range, moved_lines, moved_nodes, notes


def test_nodes_of_both_sides_that_moved_are_named():
    before = {"a (MatMul)": "QNN", "b (Add)": "QNN", "gone (Mul)": "QNN"}
    after = {"a (MatMul)": "CPU", "b (Add)": "QNN", "new (Cast)": "CPU"}
    assert moved_nodes(before, after) == (("a (MatMul)", "QNN", "CPU"),)
    assert moved_lines(moved_nodes(before, after)) == ["a (MatMul): QNN, now CPU"]
    many = tuple((f"n{number}", "QNN", "CPU") for number in range(9))
    assert moved_lines(many)[-1] == "and 4 nodes more"
    assert len(moved_lines(many)) == 6


def test_operators_that_grew_are_found_in_real_profiles(one_layer, setup_of):
    found = grown_operators(setup_of(one_layer(2), one_layer(40)))
    assert [name for name, _, _ in found] == ["MatMul"]
    assert found[0][2] > found[0][1]


def test_the_host_is_a_range_of_what_it_said(restart_of):
    hosts = [{"clock_mhz": 2000.0, "governor": "powersave"}, {"clock_mhz": 3000.0}, {"load_1min": 1.0}]
    found = host_range([restart_of(host=host) for host in hosts])
    assert found == {"clock_mhz": (2000.0, 3000.0), "governor": ("powersave",), "load_1min": (1.0, 1.0)}


def test_what_a_reader_should_know_is_noted(one_layer, setup_of, restart_of):
    path = one_layer(1)
    assert notes(setup_of(path, one_layer(2)), [restart_of()], []) == ()
    restarts = [
        restart_of(settled=False, pinned=False, host={"clock_mhz": 2000.0}),
        restart_of(host={"clock_mhz": 3000.0}),
    ]
    found = notes(setup_of(path, path, cpus=(1,)), restarts, ["it was killed"])
    assert found == (
        "base and candidate are the same file: what differs is this machine's noise",
        "times had not settled after warm-up in 1 of 2 restarts",
        "processes may not be bound to cores here: they wander, which is more noise",
        "the clock of the cores was between 2000 and 3000 MHz",
        "a restart was lost and measured again: it was killed",
    )


@pytest.mark.parametrize("cpus", [(), (1,)])
def test_no_cores_to_choose_are_no_news(one_layer, setup_of, restart_of, cpus):
    setup = setup_of(one_layer(1), one_layer(2), cpus=cpus)
    assert bool(notes(setup, [restart_of(pinned=False)], [])) == bool(cpus)
