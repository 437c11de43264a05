// `node pasted.mjs WAY`: the pasted handler in Node. The ways, and what goes in and out, are as in python_child.py.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { SQSClient, SendMessageCommand } from "@aws-sdk/client-sqs";
import pg from "pg";
import { Webhook } from "svix";

const way = process.argv[2];
const settings = JSON.parse(process.env.PEER);
const { known, upsert, record } = JSON.parse(readFileSync(settings.statements, "utf-8"));
const webhook = new Webhook(settings.secret);
const client = new pg.Client({ connectionString: settings.database });
await client.connect();
// Otherwise the host of the address of the queue comes before AWS_ENDPOINT_URL.
const sqs = way === "queue" ? new SQSClient({ useQueueUrlAsEndpoint: false }) : null;

function valuesOf(user) {
  const email = user.email_addresses.find((each) => each.id === user.primary_email_address_id)?.email_address ?? null;
  return [
    user.id, email, user.first_name, user.last_name, user.username, user.image_url,
    JSON.stringify(user.public_metadata), JSON.stringify(user.unsafe_metadata), user.created_at, user.updated_at,
  ];
}

function verified(request) {
  webhook.verify(request.body, request.headers);
  return [request.headers["svix-id"], JSON.parse(request.body)];
}

// A name makes pg prepare the statement once.
const run = (name, text, values) => client.query({ name, text, values });

async function carefully(svixId, event) {
  const user = event.data;
  await client.query("begin");
  const { rows } = await run("known", known, [user.id]);
  if (rows.length === 0 || Number(rows[0].updated_at) < user.updated_at) await run("upsert", upsert, valuesOf(user));
  await run("record", record, [svixId, event.type, user.id]);
  await client.query("commit");
}

async function work(requests) {
  if (way === "plain") {
    for (const request of requests) await run("upsert", upsert, valuesOf(verified(request)[1].data));
  } else if (way === "careful") {
    for (const request of requests) await carefully(...verified(request));
  } else {
    for (const request of requests) {
      const [svixId] = verified(request);
      const MessageAttributes = { svix_id: { DataType: "String", StringValue: svixId } };
      const QueueUrl = "https://sqs.example.test/q";
      await sqs.send(new SendMessageCommand({ QueueUrl, MessageBody: request.body, MessageAttributes }));
    }
    for (const request of requests) await carefully(request.headers["svix-id"], JSON.parse(request.body));
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const requests = JSON.parse(readFileSync(line.trim(), "utf-8"));
  const before = process.cpuUsage();
  const began = process.hrtime.bigint();
  await work(requests);
  const seconds = Number(process.hrtime.bigint() - began) / 1e9;
  const { user, system } = process.cpuUsage(before);
  console.log(JSON.stringify({ seconds, cpu_seconds: (user + system) / 1e6 }));
}
await client.end();
