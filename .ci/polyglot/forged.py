"""A publisher whose headers should not be believed: the analysis agent in Python settles them all, and still answers."""

import asyncio
import datetime
import sys

import aio_pika

from agentbus.v1.error_reply_pb2 import ErrorReply
from bus import EXCHANGE, PREFIX, URL, moment, now_ms, portable

FORGED = (
    {"agentbus-attempt": 2_000_000_000},
    {"agentbus-attempt": -5},
    {"agentbus-attempt": 3e38, "agentbus-max-attempts": -3e38},
    {"agentbus-attempt": "9" * 30, "agentbus-max-attempts": 2**62},
    {"agentbus-deadline": 3e38, "agentbus-expires-at": -3e38, "agentbus-max-attempts": -1},
    {"agentbus-deadline": 2**62, "agentbus-expires-at": "9999-12-31T23:59:59Z", "agentbus-attempt": 2**62},
)
NOW = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=500_000)
FORMS = {"a timestamp": NOW.replace(microsecond=0), "RFC 3339": NOW.strftime("%Y-%m-%dT%H:%M:%S.5Z"), "text": str(now_ms())}


def expect(truth, what):
    if not truth:
        sys.exit(f"expected {what}")


async def main():
    for form, at in FORMS.items():
        read = moment({"at": at}, "at", days=1)
        expect(read is not None and abs(read - NOW.timestamp() * 1000) < 1000, f"{form} as a time, not {read}")
    # RabbitMQ takes neither, but others may.
    for nonsense in (float("inf"), float("nan")):
        expect(moment({"at": nonsense}, "at", days=1) is None, f"no time, from {nonsense}")
    # What can be received and not be sent again, by this client library, is sent as text.
    expect(portable({"d": 1e300, "b": True, "n": {"deep": 1}}) == {"d": "1e+300", "b": "true"}, "headers that can be sent")
    hour = datetime.timedelta(hours=1)
    deadlines = {
        "late by a timestamp": NOW.replace(microsecond=0) - hour, "late by RFC 3339": (NOW - hour).isoformat(),
        "in time by a timestamp": NOW.replace(microsecond=0) + hour, "in time by RFC 3339": (NOW + hour).isoformat()}
    awaited = {name for name in deadlines if name.startswith("in time")}
    async with await aio_pika.connect(URL) as connection:
        channel = await connection.channel(on_return_raises=True)
        exchange = await channel.get_exchange(EXCHANGE)
        inbox = await channel.declare_queue(exclusive=True)
        # Twice the prefetch of the agent.
        for i in range(66):
            headers = {"agentbus-topic": "analysis.unknown"} | FORGED[i % len(FORGED)]
            await channel.default_exchange.publish(aio_pika.Message(b"", headers=headers), f"{PREFIX}analysis")
        for name, deadline in deadlines.items():
            request = aio_pika.Message(
                b"", reply_to=inbox.name, correlation_id=name, headers={"agentbus-deadline": deadline})
            await exchange.publish(request, "analysis.request")
        async with inbox.iterator(no_ack=True, timeout=60) as replies:
            async for reply in replies:
                expect(reply.correlation_id in awaited, f"no reply to what is {reply.correlation_id}")
                error = ErrorReply.FromString(reply.body)
                expect(error.code == "INVALID_ARGUMENT" and "series" in error.message, f"no {error}")
                awaited.discard(reply.correlation_id)
                if not awaited:
                    break
    print("answered, after 66 messages with forged headers")


asyncio.run(main())
