"""Stage report: everything the other stages found, as report.json for programs and report.md for people."""
