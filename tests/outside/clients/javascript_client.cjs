// Does with @supabase/supabase-js what each line of standard input says, and answers with a line.

const { createInterface } = require("node:readline");
const { createClient } = require("@supabase/supabase-js");

// A client of somebody with a token of Clerk's, made as Clerk's guide says, or of nobody.
function connected({ url, key, token }) {
  return createClient(url, key, token ? { accessToken: async () => token } : {});
}

function request(asked) {
  const client = connected(asked);
  const table = (asked.schema ? client.schema(asked.schema) : client).from(asked.table);
  switch (asked.verb) {
    case "select":
      return table.select(asked.columns);
    case "insert":
      return table.insert(asked.values).select();
    case "insert_once":
      return table.upsert(asked.values, { onConflict: asked.key_column, ignoreDuplicates: true }).select();
    case "update":
      return table.update(asked.values);
    case "delete":
      return table.delete();
  }
}

async function answer(asked) {
  let filtered = request(asked);
  for (const [column, value] of Object.entries(asked.where)) {
    filtered = filtered.eq(column, value);
  }
  const returnsRows = asked.verb === "update" || asked.verb === "delete";
  const { data, error } = await (returnsRows ? filtered.select() : filtered);
  return error ? { code: error.code, message: error.message } : { rows: data };
}

async function serve() {
  for await (const line of createInterface({ input: process.stdin })) {
    process.stdout.write(JSON.stringify(await answer(JSON.parse(line))) + "\n");
  }
}

// A client keeps timers of its own.
serve().then(() => process.exit());
