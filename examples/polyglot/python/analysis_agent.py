"""The analysis agent of examples/market, in Python: answers `analysis.request`."""

import asyncio
import logging
import math
from datetime import date

from analysis import analyse
from bus import Agent, Refused
from market.v1 import market_pb2 as market


def malformed(field: str, problem: str) -> Refused:
    return Refused("INVALID_ARGUMENT", f"`{field}` {problem}")


def day(field: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise malformed(field, f"is `{text}`, not a date such as `2025-12-31`") from None


def read_series(series: market.Series):
    closes = {}
    for point in series.points:
        if not (point.close > 0 and math.isfinite(point.close)):
            raise malformed("close", f'of "{point.date}" is {point.close}, not above zero and finite')
        closes[day("date", point.date)] = point.close
    return series.asset, dict(sorted(closes.items()))


async def handle(request: market.AnalysisRequest) -> market.AnalysisResponse:
    if not request.series:
        raise malformed("series", "is empty: there is nothing to analyse")
    if not request.HasField("range"):
        raise malformed("range", "is not set")
    for metric in request.metrics:
        if metric not in market.Metric.values() or metric == market.METRIC_UNSPECIFIED:
            raise malformed("metrics", f"has the value {metric}, which is not known")
    window = request.anomaly_window if request.HasField("anomaly_window") else 30
    threshold = request.anomaly_threshold if request.HasField("anomaly_threshold") else 3.0
    if not threshold > 0:
        raise malformed("anomaly_threshold", f"is {threshold}, not above zero")
    first, last = day("from", getattr(request.range, "from")), day("to", request.range.to)
    series = [read_series(it) for it in request.series]
    # In a thread: the loop has heartbeats to send meanwhile.
    return await asyncio.to_thread(analyse, series, first, last, set(request.metrics), window, threshold)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("aiormq").setLevel(logging.WARNING)
    asyncio.run(Agent("analysis", {"analysis.request": (market.AnalysisRequest, handle)}).run())
