"""Asks the query agent of examples/market a question, and prints its answer as JSON."""

import asyncio
import sys

import aio_pika
from aiormq.exceptions import DeliveryError
from google.protobuf.json_format import MessageToJson

from agentbus.v1.error_reply_pb2 import ErrorReply
from bus import EXCHANGE, URL, envelope, now_ms
from market.v1 import market_pb2 as market

TIMEOUT = 30


async def ask(question: market.Question) -> market.Answer:
    async with await aio_pika.connect(URL, timeout=10) as connection:
        channel = await connection.channel(on_return_raises=True)
        exchange = await channel.get_exchange(EXCHANGE, ensure=False)
        # Direct reply-to: consumed on the channel that publishes, before it publishes.
        inbox = await channel.get_queue("amq.rabbitmq.reply-to", ensure=False)
        replied = asyncio.get_running_loop().create_future()
        request = envelope(question, "python", {}, reply_to=inbox.name)
        request.correlation_id = request.message_id
        request.headers |= {
            "agentbus-deadline": now_ms() + TIMEOUT * 1000, "agentbus-conversation-id": request.message_id}

        async def take(reply):
            if reply.correlation_id == request.correlation_id and not replied.done():
                replied.set_result(reply)

        await inbox.consume(take, no_ack=True)
        try:
            await exchange.publish(request, "query.request")
        except DeliveryError:
            sys.exit("nobody listens to `query.request`")
        try:
            reply = await asyncio.wait_for(replied, TIMEOUT)
        except TimeoutError:
            sys.exit(f"no reply within {TIMEOUT} s")
        if reply.type == ErrorReply.DESCRIPTOR.full_name:
            error = ErrorReply.FromString(reply.body)
            sys.exit(f"{error.code}: {error.message}")
        if reply.type not in (None, "", market.Answer.DESCRIPTOR.full_name):
            sys.exit(f"expected an answer, got a `{reply.type}`")
        return market.Answer.FromString(reply.body)


if __name__ == "__main__":
    answer = asyncio.run(ask(market.Question(text=" ".join(sys.argv[1:]))))
    print(MessageToJson(answer))
