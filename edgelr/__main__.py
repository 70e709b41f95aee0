"""``python -m edgelr``: the same as the ``edgelr`` command."""

from edgelr.cli import main

if __name__ == "__main__":
    main()
