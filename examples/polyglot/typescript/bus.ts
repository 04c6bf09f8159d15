// How a client asks an agent on RabbitMQ, as docs/wire.md has it.

import { randomUUID } from "node:crypto";
import { fromBinary, toBinary, type DescMessage, type MessageShape } from "@bufbuild/protobuf";
import { connect, type ChannelModel, type ConfirmChannel, type ConsumeMessage, type Message } from "amqplib";
import { ErrorReplySchema, type ErrorReply } from "./generated/agentbus/v1/error_reply_pb.ts";

const EXCHANGE = process.env.AGENTBUS_EXCHANGE ?? "agentbus.events";
const DIRECT_REPLY_TO = "amq.rabbitmq.reply-to";

/** What went wrong with a request, by gRPC's names. */
export class RequestError extends Error {
  constructor(readonly code: string, message: string, readonly retryable = false) {
    super(`${code}: ${message}`);
  }
}

/** A request that waits for its reply. */
interface Pending {
  resolve(reply: ConsumeMessage): void;
  reject(error: Error): void;
}

/** A connection that asks. Once it is lost, everything that waits ends; make another one then. */
export class Bus {
  private readonly pending = new Map<string, Pending>();

  private constructor(
    private readonly connection: ChannelModel,
    private readonly channel: ConfirmChannel,
    private readonly sender: string,
  ) {}

  static async connect(url: string, sender: string): Promise<Bus> {
    const connection = await connect(url, { timeout: 10_000 });
    const channel = await connection.createConfirmChannel();
    const bus = new Bus(connection, channel, sender);
    const lost = (reason?: Error) =>
      bus.fail(new RequestError("UNAVAILABLE", `the connection is lost: ${reason?.message ?? "closed"}`, true));
    connection.on("error", lost);
    connection.on("close", lost);
    channel.on("error", lost);
    // Nobody is bound: the broker gives the message back.
    channel.on("return", (message: Message) => {
      const text = `nobody listens to \`${message.fields.routingKey}\``;
      bus.take(message.properties.correlationId)?.reject(new RequestError("UNAVAILABLE", text, true));
    });
    // On the channel that publishes the requests, before the first of them; without acks.
    await channel.consume(DIRECT_REPLY_TO, (reply) => {
      if (reply) bus.take(reply.properties.correlationId)?.resolve(reply);
    }, { noAck: true });
    return bus;
  }

  /** Asks, and waits for the reply, a typed error, or the end of `timeout` milliseconds. */
  async request<Req extends DescMessage, Res extends DescMessage>(
    topic: string, requestType: Req, request: MessageShape<Req>, replyType: Res, timeout = 30_000,
  ): Promise<MessageShape<Res>> {
    const id = randomUUID();
    const late = new RequestError("DEADLINE_EXCEEDED", `no reply on \`${topic}\` within ${timeout} ms`, true);
    const timer = setTimeout(() => this.take(id)?.reject(late), timeout);
    try {
      const replied = new Promise<ConsumeMessage>((resolve, reject) => this.pending.set(id, { resolve, reject }));
      const confirmed = this.publish(topic, requestType, request, id, timeout);
      const [reply] = await Promise.all([replied, confirmed]);
      return read(reply, replyType);
    } finally {
      clearTimeout(timer);
      this.pending.delete(id);
    }
  }

  async close(): Promise<void> {
    await this.connection.close();
  }

  private publish<Req extends DescMessage>(
    topic: string, type: Req, message: MessageShape<Req>, id: string, timeout: number,
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      this.channel.publish(EXCHANGE, topic, Buffer.from(toBinary(type, message)), {
        contentType: "application/x-protobuf",
        type: type.typeName,
        messageId: id,
        correlationId: id,
        replyTo: DIRECT_REPLY_TO,
        appId: this.sender,
        timestamp: Math.floor(Date.now() / 1000),
        persistent: true,
        mandatory: true,
        headers: { "agentbus-deadline": Date.now() + timeout, "agentbus-conversation-id": id },
      }, (error: Error | null) => {
        if (error) reject(new RequestError("UNAVAILABLE", `\`${topic}\` did not take it: ${error.message}`, true));
        else resolve();
      });
    });
  }

  private take(id: string): Pending | undefined {
    const pending = this.pending.get(id);
    this.pending.delete(id);
    return pending;
  }

  private fail(error: Error): void {
    for (const id of [...this.pending.keys()]) this.take(id)?.reject(error);
  }
}

function read<Res extends DescMessage>(reply: ConsumeMessage, type: Res): MessageShape<Res> {
  // Protobuf decodes the wrong type without complaint, so its name decides.
  const found: string = reply.properties.type ?? type.typeName;
  if (found === ErrorReplySchema.typeName) {
    const error: ErrorReply = fromBinary(ErrorReplySchema, reply.content);
    throw new RequestError(error.code, error.message, error.retryable);
  }
  if (found !== type.typeName) throw new RequestError("INTERNAL", `expected a ${type.typeName}, got a ${found}`);
  return fromBinary(type, reply.content);
}
