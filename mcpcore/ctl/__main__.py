"""`python -m mcpcore.ctl`: the same as `mcpctl`."""

from mcpcore.ctl.main import main

main()
