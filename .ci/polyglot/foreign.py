"""A publisher that knows the schema and nothing of agentbus, traced by OpenTelemetry's instrumentation."""

import datetime
import os
import sys
from decimal import Decimal

import pika
from opentelemetry import trace
from opentelemetry.instrumentation.pika import PikaInstrumentor
from opentelemetry.sdk.trace import TracerProvider

from agentbus.v1.error_reply_pb2 import ErrorReply
from market.v1 import market_pb2 as market

EXCHANGE = os.environ.get("AGENTBUS_EXCHANGE", "agentbus.events")
QUESTION = market.Question(text="volatility of ZEC this year").SerializeToString()

# As senders of various habits describe the same question.
HABITS = {
    "no properties at all": {},
    "headers of every type": {"headers": {
        "small": 1, "large": 2**40, "negative": -7, "flag": True, "ratio": Decimal("0.5"), "none": None, "bytes": b"\xff\xfe",
        "at": datetime.datetime(2026, 11, 21), "nested": {"deep": ["down"]}, "list": [1, "two"]}},
    "a timestamp in milliseconds": {"timestamp": 1_795_266_000_000},
    "a priority beyond ours": {"priority": 200},
    "transient, and expiring": {"delivery_mode": 1, "expiration": "60000"},
    "another name of protobuf": {"content_type": "application/protobuf", "content_encoding": "identity"},
    "CloudEvents": {"headers": {
        "ce-specversion": "1.0", "ce-id": "17", "ce-source": "/shop", "ce-type": "market.v1.Question",
        "ce-time": "2026-11-21T13:00:00.5Z"}},
}


def expect(truth, what):
    if not truth:
        sys.exit(f"expected {what}")


def main():
    trace.set_tracer_provider(TracerProvider())
    connection = pika.BlockingConnection(pika.URLParameters(os.environ["AGENTBUS_URL"]))
    PikaInstrumentor().instrument()
    channel = connection.channel()
    channel.confirm_delivery()
    inbox = channel.queue_declare("", exclusive=True).method.queue

    def ask(correlation_id, body=QUESTION, **properties):
        properties = pika.BasicProperties(reply_to=inbox, correlation_id=correlation_id, **properties)
        channel.basic_publish(EXCHANGE, "query.request", body, properties, mandatory=True)
        for method, replied, reply in channel.consume(inbox, auto_ack=True, inactivity_timeout=60):
            expect(method, f"a reply within a minute: {correlation_id}")
            if replied.correlation_id == correlation_id:
                channel.cancel()
                return replied, reply

    for habit, properties in HABITS.items():
        replied, body = ask(habit, **properties)
        expect(replied.type == "market.v1.Answer", f"an answer, not a {replied.type}: {habit}")
        expect(market.Answer.FromString(body).HasField("results"), f"results: {habit}")
        print(f"answered: {habit}")

    with trace.get_tracer("ci").start_as_current_span("question") as span:
        replied, _ = ask("traced")
        expected = f"{span.get_span_context().trace_id:032x}"
    expect(isinstance(replied.headers["traceparent"], str), "a traceparent that is text")
    expect(replied.headers["traceparent"].split("-")[1] == expected, f"trace {expected}: {replied.headers}")
    print(f"the answer belongs to the trace of the question: {expected}")

    for habit, properties, body in (
        ("another type", {"type": "market.v1.Answer"}, QUESTION),
        ("a compressed body", {"content_encoding": "gzip"}, QUESTION),
        ("another content type", {"content_type": "application/json"}, b"{}"),
        ("no protobuf", {}, b"\x0a\xff"),
    ):
        replied, body = ask(habit, body, **properties)
        expect(replied.type == "agentbus.v1.ErrorReply", f"an error, not a {replied.type}: {habit}")
        error = ErrorReply.FromString(body)
        expect(error.code == "INVALID_ARGUMENT" and not error.retryable, f"no {error}: {habit}")
        print(f"refused: {habit}: {error.message}")
    connection.close()


main()
