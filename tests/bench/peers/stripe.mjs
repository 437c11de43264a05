// `node stripe.mjs WAY`: the published package of Stripe's sync engine. `webhooks`: events about customers, in and out as
// in python_child.py. `back-fill`: each line is the number of customers that the API at the port of the settings lists.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import Stripe from "stripe";

// As a CommonJS module: the ES module looks for its migrations at `__dirname`, which it does not have.
const { StripeSync, runMigrations } = createRequire(import.meta.url)("@supabase/stripe-sync-engine");

const way = process.argv[2];
const { database, secret, port } = JSON.parse(process.env.PEER);
// Only the logger hears that a migration failed.
const logger = { info() {}, error(error) { throw error; } };
await runMigrations({ databaseUrl: database, schema: "stripe", logger });
const engine = new StripeSync({
  stripeSecretKey: "sk_test_bench", stripeWebhookSecret: secret, poolConfig: { connectionString: database, max: 10 },
});
engine.stripe = new Stripe("sk_test_bench", { host: "127.0.0.1", port, protocol: "http", telemetry: false });

const signed = (payload) => [payload, engine.stripe.webhooks.generateTestHeaderString({ payload, secret })];

for await (const line of createInterface({ input: process.stdin })) {
  const requests =
    way === "webhooks" ? JSON.parse(readFileSync(line.trim(), "utf-8")).map((each) => signed(each.body)) : [];
  const before = process.cpuUsage();
  const began = process.hrtime.bigint();
  for (const [payload, signature] of requests) await engine.processWebhook(payload, signature);
  if (way !== "webhooks") {
    const { synced } = await engine.syncCustomers();
    if (synced !== Number(line)) throw new Error(`synced ${synced} of ${line}`);
  }
  const seconds = Number(process.hrtime.bigint() - began) / 1e9;
  const { user, system } = process.cpuUsage(before);
  console.log(JSON.stringify({ seconds, cpu_seconds: (user + system) / 1e6 }));
}
await engine.postgresClient.close();
