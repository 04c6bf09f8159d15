// Reads AsyncAPI documents with AsyncAPI's own parser: `node asyncapi.mjs FILE...`. Ends with 1 where one
// has an error or a warning. A file after `--protobuf` is read with the plug-in for protobuf as well.
import { readFileSync } from 'node:fs';
import { Parser } from '@asyncapi/parser';
import { ProtoBuffSchemaParser } from '@asyncapi/protobuf-schema-parser';

// That a newer version of AsyncAPI has appeared is no fault of a document.
const PASSED_OVER = new Set(['asyncapi-latest-version']);
const WARNING = 1;

async function read(file, withProtobuf) {
  const parser = new Parser();
  if (withProtobuf) parser.registerSchemaParser(ProtoBuffSchemaParser());
  const { document, diagnostics } = await parser.parse(readFileSync(file, 'utf8'));
  const faults = diagnostics.filter((it) => it.severity <= WARNING && !PASSED_OVER.has(it.code));
  for (const { code, message, path } of faults) console.error(`${file}: ${path.join('/')}: ${code}: ${message}`);
  if (!document || faults.length > 0) return false;

  const operations = document.operations().all();
  const messages = document.messages().all();
  const plain = messages.filter((it) => !it.extensions().has('x-protojson') || !it.hasPayload());
  for (const message of plain) console.error(`${file}: ${message.id()} has no payload or no JSON form`);
  const how = withProtobuf ? ', protobuf read' : '';
  console.log(`${file}: ${operations.length} operations, ${messages.length} messages${how}`);
  return operations.length > 0 && messages.length > 0 && plain.length === 0;
}

let good = true;
let withProtobuf = false;
for (const word of process.argv.slice(2)) {
  if (word === '--protobuf') {
    withProtobuf = true;
    continue;
  }
  good = (await read(word, false)) && good;
  if (withProtobuf) good = (await read(word, true)) && good;
}
process.exit(good ? 0 : 1);
