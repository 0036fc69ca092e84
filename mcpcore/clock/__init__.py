"""Timestamps, hybrid logical clocks, offset and drift. Pure: every reading is handed in."""

from mcpcore.clock.agreement import Agreement, Falseticker, NoAgreement, agree, marzullo
from mcpcore.clock.bound import Recovery, UpperBound, decode_bound, encode_bound
from mcpcore.clock.compensation import (
    Auto,
    CalibrationWindow,
    Compensation,
    LinkEvidence,
    LiteralIncrement,
    Plan,
    Uncompensated,
    Weight,
    WeightedIncrement,
    light_delay_ns,
    proved_delay_ns,
)
from mcpcore.clock.drift_model import (
    DriftModel,
    DriftRow,
    misorder_probability,
    pairwise_bound_ns,
    reference_bound_ns,
    run_drift_model,
)
from mcpcore.clock.health import ClockEvidence, ClockHealth, ClockState, judge
from mcpcore.clock.hlc import HybridClock
from mcpcore.clock.interval import (
    Interval,
    Order,
    Reading,
    compare_with_uncertainty,
    wait_until_past_ns,
)
from mcpcore.clock.node_clock import ClockRow, NodeClock
from mcpcore.clock.offset import (
    Exchange,
    OffsetEstimate,
    OffsetEstimator,
    SampleEvent,
    SampleRefused,
    SampleTaken,
    WindowRestarted,
)
from mcpcore.clock.settings import ClockSettings
from mcpcore.clock.steady import SteadyClock, SystemClockJumped, WallWatch
from mcpcore.clock.timestamp import (
    MSGPACK_EXT_TYPE,
    Timestamp,
    as_timestamp,
    msgpack_default,
    msgpack_ext_hook,
)

__all__ = [
    "MSGPACK_EXT_TYPE",
    "Agreement",
    "Auto",
    "CalibrationWindow",
    "ClockEvidence",
    "ClockHealth",
    "ClockRow",
    "ClockSettings",
    "ClockState",
    "Compensation",
    "DriftModel",
    "DriftRow",
    "Exchange",
    "Falseticker",
    "HybridClock",
    "Interval",
    "LinkEvidence",
    "LiteralIncrement",
    "NoAgreement",
    "NodeClock",
    "OffsetEstimate",
    "OffsetEstimator",
    "Order",
    "Plan",
    "Reading",
    "Recovery",
    "SampleEvent",
    "SampleRefused",
    "SampleTaken",
    "SteadyClock",
    "SystemClockJumped",
    "Timestamp",
    "Uncompensated",
    "UpperBound",
    "WallWatch",
    "Weight",
    "WeightedIncrement",
    "WindowRestarted",
    "agree",
    "as_timestamp",
    "compare_with_uncertainty",
    "decode_bound",
    "encode_bound",
    "judge",
    "light_delay_ns",
    "marzullo",
    "misorder_probability",
    "msgpack_default",
    "msgpack_ext_hook",
    "pairwise_bound_ns",
    "proved_delay_ns",
    "reference_bound_ns",
    "run_drift_model",
    "wait_until_past_ns",
]
