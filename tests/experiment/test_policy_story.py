"""The policy story on running nodes ends well with the log, and badly without it."""

from __future__ import annotations

from mcpcore.experiment.policy_story import PolicyStory
from mcpcore.policy import Kind, Mode
from mcpcore.policy.story import QUESTIONS


def test_the_story_ends_without_conflicts_and_allows_nothing_that_nobody_allowed() -> None:
    with PolicyStory() as story:
        scenes = list(story.scenes())
    assert story.gained == 0
    assert {c.kind for c in scenes[3].conflicts} == {Kind.MULTI_VALUE, Kind.CYCLE_CUT, Kind.INERT}
    assert story.left == 0
    assert len(scenes[-1].answers) == len(QUESTIONS)


def test_the_story_without_the_log_allows_what_nobody_allowed_and_says_so() -> None:
    with PolicyStory(Mode.OPTIMISTIC) as story:
        scenes = list(story.scenes())
    assert story.gained == 1
    assert Kind.LOOSENING in {c.kind for c in scenes[3].conflicts}


def test_the_same_seed_tells_the_same_story() -> None:
    def told() -> list[str]:
        with PolicyStory(seed=3) as story:
            return [str(scene) for scene in story.scenes()]

    assert told() == told()
