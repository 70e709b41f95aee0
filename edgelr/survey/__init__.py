"""Stage survey: list every factorable site, and measure what factoring each one would cost the output.

A model has one of two forms. ``torch_module`` surveys a module (``sites`` says what a site is there,
``statistics`` gathers input statistics, ``trial`` carries a reduction out), ``onnx_graph`` a graph
(``graph_statistics`` gathers). Both measure by ``measure`` and write by ``findings``.
"""
