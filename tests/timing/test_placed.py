from edgelr.artifacts import Package
from edgelr.device.schema import Device
from edgelr.device.session import open_session
from edgelr.runtime.package import model_path
from edgelr.timing.placed import placed_nodes
from edgelr.validate.placement import RECORD


def test_every_named_node_has_its_provider(dense_translator: Package, cpu: Device) -> None:
    sessions = {
        role: open_session(model_path(dense_translator, role), cpu, entries=RECORD)
        for role in ("encoder", "decoder")
    }
    found = placed_nodes(sessions)
    assert set(found.values()) == {"CPUExecutionProvider"}
    assert {name.split("/", 1)[0] for name in found} == {"encoder", "decoder"}
    assert any(name.endswith("(MatMul)") for name in found)
    (one,) = ({"": sessions["encoder"]},)
    assert all(not name.startswith("encoder/") for name in placed_nodes(one))
