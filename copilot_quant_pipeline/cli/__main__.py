"""`python -m copilot_quant_pipeline.cli`, the same as `copilot-quant`.

Here: the call. Not here: anything else.
"""

from copilot_quant_pipeline.cli import main

if __name__ == "__main__":
    main()
