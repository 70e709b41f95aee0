"""Stage survey: list every factorable site, and measure what factoring each one would cost the output.

``sites`` says what a site is in a torch module, ``statistics`` gathers input statistics, ``sensitivity``
measures how much the task's output depends on a site.
"""
