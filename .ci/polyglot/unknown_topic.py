"""Sends the analysis agent a message that it has no route for, and that allows two attempts."""

import asyncio

import aio_pika

from bus import PREFIX, URL, envelope
from market.v1 import market_pb2 as market


async def main():
    async with await aio_pika.connect(URL) as connection:
        channel = await connection.channel(on_return_raises=True)
        message = envelope(market.AnalysisRequest(), "ci", {
            "agentbus-topic": "analysis.unknown", "agentbus-max-attempts": 2})
        await channel.default_exchange.publish(message, f"{PREFIX}analysis")


asyncio.run(main())
