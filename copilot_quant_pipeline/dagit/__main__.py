"""`python -m copilot_quant_pipeline.dagit`: what `dagster-webserver` is, with its options, behind the gate.

Here: the start.
Not here: what it serves (server), who gets in (gate).
"""

from copilot_quant_pipeline.dagit.server import main

main()
