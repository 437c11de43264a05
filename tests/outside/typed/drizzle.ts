import { eq } from "drizzle-orm"
import { drizzle } from "drizzle-orm/node-postgres"
import { badges, organizationMemberships, users } from "./clerk-tables.ts"
import { notes } from "./src/schema.ts"

const url = process.env["DATABASE_URL"]
if (!url) throw new Error("DATABASE_URL is missing")
const database = drizzle(url)
const rows = await database
  .select({ body: notes.body, firstName: users.firstName, points: users.points, plan: users.plan })
  .from(notes)
  .innerJoin(users, eq(users.clerkId, notes.owner))
  .leftJoin(organizationMemberships, eq(organizationMemberships.clerkUserId, users.clerkId))
  .leftJoin(badges, eq(badges.clerkId, users.clerkId))
const first: { body: string; firstName: string | null; points: bigint | null; plan: string } | undefined = rows[0]
// @ts-expect-error - a name may be missing
const name: string | undefined = rows[0]?.firstName
// @ts-expect-error - none of the values of the enum
const plan: "gold" | undefined = rows[0]?.plan
// @ts-expect-error - no such column
void users.clerk_id
// @ts-expect-error - Postgres computes the column
void database.insert(users).values({ clerkId: "user_1", doubled: 2n })
void [first, name, plan]
console.log(JSON.stringify(rows, (_, value: unknown) => (typeof value === "bigint" ? `${value}` : value)))
await database.$client.end()
