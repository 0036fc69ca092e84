"""The words of a story to watch: three clouds, a cut, edits on both sides, the merge, decisions.

This module exists so that what is shown, tested and told in the manual is the same story. What
happens is up to whoever plays it: ``mcpcore.experiment.policy_story``. It must never act.
"""

from __future__ import annotations

from dataclasses import dataclass

from mcpcore.policy.conflicts import Conflict
from mcpcore.policy.explain import Explanation
from mcpcore.policy.model import AccessRule, Effect, Request, Statement
from mcpcore.policy.patterns import Names
from mcpcore.policy.store import Author

CLOUDS = ("us-east-1", "hangzhou", "edge")
CUT_OFF = "edge"
SHOP = Author("shop", document="web")
BANK = Author("bank", document="reports")

QUESTIONS = (
    Request("shop/user/ann", "deploy", "shop/service/web"),
    Request("shop/user/ann", "deploy", "shop/service/ledger"),
    Request("shop/user/cleo", "deploy", "shop/service/ledger"),
    Request("bank/user/bob", "read", "shop/service/web"),
)
CHOICES = {
    "edit-race": "keep:1",
    "multi-value": "keep:2",
    "cycle-cut": "drop",
    "inert-scope": "drop",
    "concurrent-loosening": "undo:1",
}


def _say(effect: Effect, author: str, who: str, what: str, where: str) -> Statement:
    rule = AccessRule(Names.of(who), Names.of(what), Names.of(where))
    return Statement(effect, rule, author)


DEPLOY = _say(Effect.PERMIT, "shop", "shop/role/deployer", "deploy", "shop/service/*")
FREEZE = _say(Effect.FORBID, "shop", "*", "*", "shop/service/ledger")
CLEO = _say(Effect.PERMIT, "shop", "shop/user/cleo", "deploy", "shop/service/ledger")
INCIDENT = _say(Effect.FORBID, "shop", "shop/user/ann", "deploy", "shop/service/web")
EVERYBODY = _say(Effect.PERMIT, "bank", "*", "read", "shop/service/*")


@dataclass(frozen=True, slots=True)
class Scene:
    """A moment of the story.

    Args:
        title: what happens.
        lines: what is said about it.
        answers: for each question, what each cloud answers.
        conflicts: what is open where everybody is joined.
        explanation: why one of the answers is what it is.
    """

    title: str
    lines: tuple[str, ...] = ()
    answers: tuple[tuple[bool, ...], ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    explanation: Explanation | None = None
