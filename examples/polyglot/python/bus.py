"""What agentbus expects of an agent on RabbitMQ, as docs/wire.md has it."""

import asyncio
import logging
import os
import signal
import time
import uuid
from datetime import datetime
from decimal import Decimal
from urllib.parse import urlsplit

import aio_pika
from aio_pika import DeliveryMode, ExchangeType, Message
from aiormq.exceptions import AMQPError, ChannelInvalidStateError, DeliveryError
from google.protobuf.message import DecodeError

from agentbus.v1.error_reply_pb2 import ErrorReply

URL = os.environ.get("AGENTBUS_URL", "amqp://localhost")
EXCHANGE = os.environ.get("AGENTBUS_EXCHANGE", "agentbus.events")
PREFIX = os.environ.get("AGENTBUS_QUEUE_PREFIX", "")
DELAYS, LEVELS, UNIT_MS = f"{EXCHANGE}.delay.v1", 28, 250
PROTOBUF = (None, "", "application/x-protobuf", "application/protobuf")
BROKER_NOTES = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-acquired-count")
CONNECTION = (AMQPError, ChannelInvalidStateError, OSError)
FAILURE = "agentbus-failure-"
ATTEMPTS, MOST_ATTEMPTS, LONGEST_WAIT_MS, MAX_BYTES = 4, 1000, 30_000, 16 << 20
DAY_MS = 86_400_000
log = logging.getLogger("agent")


class Refused(Exception):
    """Answers the asker with an error: no retry, and no dead letter."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code


class Failed(Exception):
    """Why a message is not handled: a kind for the dead letter, a code for the asker."""

    def __init__(self, kind: str, code: str, message: str, retry: bool = False):
        super().__init__(message)
        self.kind, self.code, self.retry = kind, code, retry


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def number(headers: dict, name: str):
    """Reads a header that any client may have written, as a number of any width or as text."""
    try:
        return int(headers[name])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def moment(headers: dict, name: str, days: int):
    """Reads a time in milliseconds, a timestamp or RFC 3339, and ignores one that many days off."""
    at, value = number(headers, name), headers.get(name)
    try:
        if at is None and isinstance(value, str):
            value = datetime.fromisoformat(value.upper())
        if isinstance(value, datetime) and value.tzinfo:
            at = int(value.timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
    return at if at is not None and abs(at - now_ms()) <= days * DAY_MS else None


def topic_of(message) -> str:
    topic = message.headers.get("agentbus-topic")
    return topic if topic and isinstance(topic, str) else message.routing_key or ""


def attempt_of(headers: dict) -> int:
    attempt = number(headers, "agentbus-attempt")
    return 1 if attempt is None else min(max(attempt, 1), MOST_ATTEMPTS)


def attempts_allowed(headers: dict) -> int:
    allowed = number(headers, "agentbus-max-attempts")
    return allowed if allowed is not None and 1 <= allowed <= MOST_ATTEMPTS else ATTEMPTS


def cut(text: str) -> str:
    return text.encode()[:255].decode(errors="ignore")


class Agent:
    """Handles requests from the queue `name`: `{topic: (request type, async handler)}`."""

    def __init__(self, name: str, routes: dict):
        self.name, self.queue_name, self.routes = name, PREFIX + name, routes
        self.dead_letters = f"{self.queue_name}.dlq"
        self.at_work = set()

    async def run(self):
        """Serves until SIGTERM or SIGINT, and finishes what it has begun."""
        stop = asyncio.Event()
        for name in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(name, stop.set)
        # Dials again by itself, declares again and consumes again.
        async with await aio_pika.connect_robust(URL, heartbeat=10, timeout=10) as connection:
            self.channel = await connection.channel(on_return_raises=True)
            await self.channel.set_qos(prefetch_count=32)
            queue = await self._declare()
            tag = await queue.consume(self._begin)
            print(f"ready on {urlsplit(URL).hostname}: {self.name}", flush=True)
            await stop.wait()
            await queue.cancel(tag)
            if self.at_work:
                await asyncio.wait(self.at_work, timeout=30)
        # What was not finished in time is unsettled, and comes again.

    async def _begin(self, message):
        # As a task of its own, so that the next one is taken meanwhile; the prefetch bounds them.
        task = asyncio.create_task(self._process(message))
        self.at_work.add(task)
        task.add_done_callback(self.at_work.discard)

    async def _process(self, message):
        try:
            try:
                await self._settle(message)
            except CONNECTION:
                raise
            except Exception as error:
                # Nothing may stay unsettled: as many as the prefetch would stop the agent.
                log.exception("cannot handle %s", message.message_id)
                failed = Failed("handler", "UNAVAILABLE", f"{type(error).__name__}: {error}")
                await self._dead_letter(message, topic_of(message), failed)
                await message.ack()
        except Exception as error:
            # A full queue did not take what follows from it, or the connection is gone.
            await self._give_back(message, error)

    async def _give_back(self, message, error):
        """Later again, and no hot loop; after a hundred times the broker makes it a dead letter."""
        log.warning("giving %s back: %r", message.message_id, error)
        await asyncio.sleep(5)
        try:
            await message.nack(requeue=True)
        except CONNECTION as gone:
            log.warning("%s comes again by itself: %r", message.message_id, gone)

    async def _settle(self, message):
        headers = message.headers
        topic = topic_of(message)
        deadline = moment(headers, "agentbus-deadline", days=30)
        expiry = moment(headers, "agentbus-expires-at", days=3650)
        if any(at is not None and at <= now_ms() for at in (deadline, expiry)):
            return await message.ack()  # nobody waits any more, or it is worth nothing
        try:
            reply = await self._handle(message, topic, deadline)
        except Refused as error:
            reply = ErrorReply(code=error.code, message=str(error))
        except Failed as error:
            if error.retry and await self._retry(message, topic, deadline, expiry):
                return await message.ack()
            await self._dead_letter(message, topic, error)
            reply = ErrorReply(code=error.code, message=str(error), retryable=error.retry)
        await self._reply(message, reply, deadline)
        await message.ack()  # only now: everything that follows from it is confirmed

    async def _handle(self, message, topic, deadline):
        if len(message.body) > MAX_BYTES:
            raise Failed("too_large", "INVALID_ARGUMENT", f"{len(message.body)} bytes are too many")
        if topic not in self.routes:
            raise Failed("no_route", "UNAVAILABLE", f"no route for `{topic}`", retry=True)
        request_type, handler = self.routes[topic]
        expected = request_type.DESCRIPTOR.full_name
        if message.content_type not in PROTOBUF:
            raise Failed("content_type", "INVALID_ARGUMENT", f"`{message.content_type}` is not protobuf")
        if message.content_encoding not in (None, "", "identity"):
            raise Failed("content_type", "INVALID_ARGUMENT", f"`{message.content_encoding}` is not read")
        if message.type not in (None, "", expected):
            raise Failed("wrong_type", "INVALID_ARGUMENT", f"expected a `{expected}`, got a `{message.type}`")
        try:
            request = request_type.FromString(message.body)
        except DecodeError as error:
            raise Failed("decode", "INVALID_ARGUMENT", f"the body is no `{expected}`: {error}") from error
        try:
            left = None if deadline is None else (deadline - now_ms()) / 1000
            return await asyncio.wait_for(handler(request), left)
        except Refused:
            raise
        except TimeoutError as error:
            raise Failed("timeout", "DEADLINE_EXCEEDED", "it took too long", retry=True) from error
        except Exception as error:
            log.exception("%s failed", topic)
            raise Failed("handler", "UNAVAILABLE", f"{type(error).__name__}: {error}", retry=True) from error

    async def _retry(self, message, topic, deadline, expiry) -> bool:
        """Publishes a copy that comes back later; tells whether there is another attempt."""
        attempt, allowed = attempt_of(message.headers), attempts_allowed(message.headers)
        wait = min(1000 << (attempt - 1), LONGEST_WAIT_MS)
        due = now_ms() + wait
        if attempt >= allowed or any(at is not None and at <= due for at in (deadline, expiry)):
            return False
        units = -(-wait // UNIT_MS)
        bits = ".".join(f"{units:0{LEVELS}b}")
        level = await self._declare_levels(max(units.bit_length() - 1, 0))
        noted = {"agentbus-topic": topic, "agentbus-attempt": attempt + 1, "agentbus-due-at": due}
        # A priority would stand in the way of the queues of the levels.
        copy = copy_of(message, noted, priority=None)
        await level.publish(copy, f"{bits}.q.{self.queue_name}")
        return True

    async def _dead_letter(self, message, topic, error):
        attempts = attempt_of(message.headers)
        noted = {"kind": error.kind, "error": cut(str(error)), "agent": self.name, "topic": cut(topic),
                 "attempts": attempts, "at": now_ms()}
        noted = {FAILURE + name: value for name, value in noted.items()} | {"agentbus-topic": topic}
        await self.channel.default_exchange.publish(copy_of(message, noted), self.dead_letters)

    async def _reply(self, request, reply, deadline):
        address = request.reply_to or ""
        direct = address.startswith("amq.rabbitmq.reply-to.")
        generated = address.startswith("amq.gen-")
        if not address or (address.startswith("amq.") and not direct and not generated):
            return
        if deadline is not None and deadline <= now_ms():
            return
        keep = ("traceparent", "tracestate", "agentbus-conversation-id")
        headers = {name: request.headers[name] for name in keep if isinstance(request.headers.get(name), str)}
        if request.message_id:
            headers["agentbus-causation-id"] = request.message_id
        message = envelope(reply, self.name, headers, request.correlation_id or request.message_id)
        try:
            # The broker returns what it delivered to such an address, so it must not be asked to.
            await self.channel.default_exchange.publish(message, address, mandatory=not direct)
        except DeliveryError as error:
            log.warning("nobody is there for the reply to %s: %s", request.message_id, error)

    async def _declare(self):
        channel = self.channel
        exchange = await channel.declare_exchange(EXCHANGE, ExchangeType.TOPIC, durable=True)
        lost = f"{DELAYS}.undeliverable"
        bounds = {"x-max-length": 100_000, "x-max-length-bytes": 1 << 30}
        lost_exchange = await channel.declare_exchange(lost, ExchangeType.FANOUT, durable=True)
        quorum = {"x-queue-type": "quorum"}
        kept = await channel.declare_queue(
            lost, durable=True, arguments=quorum | bounds | {"x-overflow": "drop-head"})
        await kept.bind(lost_exchange, "")
        delivery = await channel.declare_exchange(
            f"{DELAYS}.delivery", ExchangeType.TOPIC, durable=True, arguments={"alternate-exchange": lost})
        full = {"x-overflow": "reject-publish"}
        await channel.declare_queue(self.dead_letters, durable=True, arguments=quorum | full | bounds | {
            "x-message-ttl": 86_400_000, "x-delivery-limit": 1_000_000})
        queue = await channel.declare_queue(self.queue_name, durable=True, arguments=quorum | full | {
            "x-dead-letter-exchange": "", "x-dead-letter-routing-key": self.dead_letters,
            "x-dead-letter-strategy": "at-least-once", "x-max-length": 1_000_000, "x-delivery-limit": 100})
        await queue.bind(delivery, "*." * LEVELS + f"q.{self.queue_name}")
        for topic in self.routes:
            await queue.bind(exchange, topic)
            await queue.bind(delivery, "*." * LEVELS + f"t.{topic}")
        return queue

    async def _declare_levels(self, highest: int):
        """Makes the delay levels up to this one, and returns its exchange."""
        below = await self.channel.get_exchange(f"{DELAYS}.delivery")
        for level in range(highest + 1):
            name, stars = f"{DELAYS}.{level:02}", "*." * (LEVELS - 1 - level)
            exchange = await self.channel.declare_exchange(name, ExchangeType.TOPIC, durable=True)
            queue = await self.channel.declare_queue(name, durable=True, arguments={
                "x-queue-type": "quorum", "x-dead-letter-strategy": "at-least-once",
                "x-overflow": "reject-publish", "x-dead-letter-exchange": below.name,
                "x-message-ttl": UNIT_MS << level})
            await queue.bind(exchange, f"{stars}1.#")
            await below.bind(exchange, f"{stars}0.#")
            below = exchange
        return below


def envelope(body, sender: str, headers: dict, correlation_id=None, **properties) -> Message:
    """Wraps a protobuf message: what describes it is in the properties, its bytes are the body."""
    return Message(
        body.SerializeToString(), content_type="application/x-protobuf", type=body.DESCRIPTOR.full_name,
        message_id=str(uuid.uuid4()), correlation_id=correlation_id, app_id=sender, timestamp=int(time.time()),
        delivery_mode=DeliveryMode.PERSISTENT, headers=headers, **properties)


def portable(headers: dict) -> dict:
    """Makes fractions and booleans text, and times numbers; what is nested is left out."""
    flat = {}
    for name, value in headers.items():
        if isinstance(value, bool):
            value = str(value).lower()
        elif isinstance(value, (float, Decimal)):
            value = str(value)
        elif isinstance(value, datetime):
            value = int(value.timestamp()) * (1000 if name.startswith("agentbus-") else 1)
        if isinstance(value, (str, bytes, int)):
            flat[name] = value
    return flat


def copy_of(message, noted: dict, **changed) -> Message:
    """Copies a message under the same id, without what the broker noted: that would look like a cycle."""
    headers = {name: value for name, value in message.headers.items()
               if not name.startswith(BROKER_NOTES) and name.upper() not in ("CC", "BCC")}
    names = ("content_type", "content_encoding", "type", "message_id", "correlation_id", "reply_to", "app_id",
             "timestamp", "priority")
    properties = {name: getattr(message, name) for name in names} | changed
    return Message(message.body, headers=portable(headers) | noted, delivery_mode=DeliveryMode.PERSISTENT, **properties)
