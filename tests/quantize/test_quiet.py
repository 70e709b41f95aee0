import logging
import sys

from edgelr.quantize.quiet import quiet


def test_nothing_is_said_and_all_is_as_before(capsys):
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    with quiet():
        sys.stdout.write("Collecting tensor data")
        root.addHandler(logging.NullHandler())
    assert (root.handlers, root.level) == before
    assert capsys.readouterr().out == ""
