"""Whatever opens a graph gives the part of a session that this project calls."""

from onnxruntime import InferenceSession

from edgelr.runners.captured import CapturedGraph
from edgelr.runners.fixed import FixedShapes
from edgelr.runners.protocol import OpenGraph
from edgelr.runners.remote import RemoteGraph


def test_sessions_and_what_stands_for_them_have_the_same_methods() -> None:
    wanted = {name for name in vars(OpenGraph) if not name.startswith("_")}
    assert wanted == {"get_inputs", "get_outputs", "run", "get_provider_graph_assignment_info"}
    for kind in (InferenceSession, CapturedGraph, FixedShapes, RemoteGraph):
        assert wanted <= set(dir(kind)), kind
