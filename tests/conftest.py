"""How Hypothesis searches: alike on every run of the suite, anew on every run of a campaign.

A suite that finds a new counterexample on somebody else's unrelated change helps nobody. The long
campaigns (`make soak`) search anew each time; what they find becomes an example here.
"""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("steady", derandomize=True)
settings.register_profile("search", derandomize=False, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))
