"""Every judge by its name, for people and programs that choose at run time.

This module exists so that the command line and the experiments offer the same judges with the same
options. It must never judge anything itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mcpcore.check.budget import Budget
from mcpcore.check.bylog import check_by_log
from mcpcore.check.causal import check_causal
from mcpcore.check.clocks import check_clock_order
from mcpcore.check.history import History
from mcpcore.check.leases import check_leases
from mcpcore.check.linear import check_linearizable
from mcpcore.check.long_fork import check_long_fork
from mcpcore.check.model import Model
from mcpcore.check.models import (
    MODELS,
    CasRegister,
    FailedCas,
    KeyValue,
    MultiRegister,
    NilReads,
    Register,
)
from mcpcore.check.numbers import check_bank, check_counter, check_unique_ids
from mcpcore.check.policies import check_policies
from mcpcore.check.queues import check_queue, check_total_queue
from mcpcore.check.replicas import check_convergence
from mcpcore.check.sagas import check_sagas
from mcpcore.check.sessions import check_sessions
from mcpcore.check.sets import check_set, check_set_full
from mcpcore.check.txn import check_list_append, check_rw_register
from mcpcore.check.verdict import Judgement
from mcpcore.check.watches import check_watches
from mcpcore.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Options:
    """What a judge may be told; each one looks only at what concerns it.

    Args:
        level: the isolation level that transactions were promised.
        nil_reads: what a read of nil says, for registers.
        failed_cas: whether a failed compare-and-set is evidence.
        absent: what a key that was never put reads as.
        healed_ns: when the last fault ended, for convergence.
        within_ns: the bound on convergence.
    """

    level: str = "strict-serializable"
    nil_reads: NilReads = "absent"
    failed_cas: FailedCas = "evidence"
    absent: str | None = None
    healed_ns: int | None = None
    within_ns: int | None = None


def model_named(name: str, options: Options) -> Model:
    """A model of linearizability with its options.

    Raises:
        InvalidInput: there is no such model.
    """
    if name not in MODELS:
        raise InvalidInput(
            f"no such model: {name}", where="model", remedy=f"One of {', '.join(sorted(MODELS))}."
        )
    if name == Register.name:
        return Register(nil_reads=options.nil_reads)
    if name == CasRegister.name:
        return CasRegister(nil_reads=options.nil_reads, failed_cas=options.failed_cas)
    if name == KeyValue.name:
        return KeyValue(
            absent=options.absent, nil_reads=options.nil_reads, failed_cas=options.failed_cas
        )
    if name == MultiRegister.name:
        return MultiRegister(nil_reads=options.nil_reads)
    return MODELS[name]()


Judge = Callable[[History, Options, Budget | None], Judgement]

_OTHERS: Mapping[str, Judge] = {
    "list-append": lambda h, o, b: check_list_append(h, o.level, b),
    "rw-register": lambda h, o, b: check_rw_register(h, o.level, b),
    "sessions": lambda h, o, b: check_sessions(h),
    "causal": lambda h, o, b: check_causal(h),
    "set-read": lambda h, o, b: check_set(h),
    "set-full": lambda h, o, b: check_set_full(h),
    "queue": lambda h, o, b: check_queue(h),
    "total-queue": lambda h, o, b: check_total_queue(h),
    "counter-bounds": lambda h, o, b: check_counter(h),
    "bank": lambda h, o, b: check_bank(h),
    "unique-ids": lambda h, o, b: check_unique_ids(h),
    "long-fork": lambda h, o, b: check_long_fork(h),
    "convergence": lambda h, o, b: check_convergence(
        h, healed_ns=o.healed_ns, within_ns=o.within_ns
    ),
    "sagas": lambda h, o, b: check_sagas(h),
    "leases": lambda h, o, b: check_leases(h),
    "watches": lambda h, o, b: check_watches(h),
    "policies": lambda h, o, b: check_policies(h),
    "clock-order": lambda h, o, b: check_clock_order(h),
}

JUDGES: tuple[str, ...] = (*MODELS, *_OTHERS)
"""Every name that `judge` takes: models of linearizability first, then the other checks."""


def judge(
    history: History,
    name: str,
    options: Options | None = None,
    budget: Budget | None = None,
) -> Judgement:
    """Judge a history by a model's or a check's name.

    A model means linearizability: by log position where operations have one, by search elsewhere.

    Raises:
        InvalidInput: there is no such judge, or the history is not one for it.
    """
    options = options or Options()
    if name in MODELS:
        model = model_named(name, options)
        if any(op.position is not None for op in history):
            return check_by_log(history, model, budget)
        return check_linearizable(history, model, budget)
    if name not in _OTHERS:
        raise InvalidInput(
            f"no such model or check: {name}",
            where="model",
            remedy=f"One of {', '.join(JUDGES)}.",
        )
    return _OTHERS[name](history, options, budget)
