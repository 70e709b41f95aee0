"""Using a package, on the device: open and check it, turn raw input into graph input, run it; no torch."""
