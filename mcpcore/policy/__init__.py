"""Policies that merge without lying: signed statements, a pure merge, and a safe view of it."""

from mcpcore.policy.compaction import stable_events, superseded
from mcpcore.policy.conditions import ALWAYS, All, AnyOf, Cel, Clause, Condition, Not
from mcpcore.policy.conflicts import Conflict, Kind, find_conflicts
from mcpcore.policy.edits import Add, Drop, Edit, Enrol, Expel, Note, Settle
from mcpcore.policy.engine import Engine, Owner, Tenancy, judge
from mcpcore.policy.explain import Explanation, Miss, Origin, explain
from mcpcore.policy.log import PolicyLog, compact, loosen, own, trust
from mcpcore.policy.model import (
    AccessRule,
    Decision,
    Effect,
    Plane,
    Reason,
    Request,
    Statement,
)
from mcpcore.policy.network import Connection, Direction, Endpoint, NetworkRule, Peer, Ports
from mcpcore.policy.patterns import Names, literal
from mcpcore.policy.prefix import Prefix
from mcpcore.policy.resolve import resolve
from mcpcore.policy.roles import Roles
from mcpcore.policy.rules import Mode
from mcpcore.policy.selectors import Requirement, Selector
from mcpcore.policy.signing import TenantKey
from mcpcore.policy.store import Author, PolicyStore, admit
from mcpcore.policy.view import Placed, Standing, View

__all__ = [
    "ALWAYS",
    "AccessRule",
    "Add",
    "All",
    "AnyOf",
    "Author",
    "Cel",
    "Clause",
    "Condition",
    "Conflict",
    "Connection",
    "Decision",
    "Direction",
    "Drop",
    "Edit",
    "Effect",
    "Endpoint",
    "Engine",
    "Enrol",
    "Expel",
    "Explanation",
    "Kind",
    "Miss",
    "Mode",
    "Names",
    "NetworkRule",
    "Not",
    "Note",
    "Origin",
    "Owner",
    "Peer",
    "Placed",
    "Plane",
    "PolicyLog",
    "PolicyStore",
    "Ports",
    "Prefix",
    "Reason",
    "Request",
    "Requirement",
    "Roles",
    "Selector",
    "Settle",
    "Standing",
    "Statement",
    "Tenancy",
    "TenantKey",
    "View",
    "admit",
    "compact",
    "explain",
    "find_conflicts",
    "judge",
    "literal",
    "loosen",
    "own",
    "resolve",
    "stable_events",
    "superseded",
    "trust",
]
