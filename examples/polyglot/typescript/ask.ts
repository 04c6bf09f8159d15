// Asks the query agent of examples/market a question, and prints its answer as JSON.

import { create, toJsonString } from "@bufbuild/protobuf";
import { Bus, RequestError } from "./bus.ts";
import { AnswerSchema, QuestionSchema } from "./generated/market/v1/market_pb.ts";

const bus = await Bus.connect(process.env.AGENTBUS_URL ?? "amqp://localhost", "typescript");
try {
  const question = create(QuestionSchema, { text: process.argv.slice(2).join(" ") });
  const answer = await bus.request("query.request", QuestionSchema, question, AnswerSchema);
  console.log(toJsonString(AnswerSchema, answer, { prettySpaces: 2 }));
} catch (error) {
  if (!(error instanceof RequestError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
} finally {
  await bus.close();
}
