import { pgTable, text, uuid } from "drizzle-orm/pg-core"
import { users } from "../clerk-tables.ts"

export const notes = pgTable("notes", {
  id: uuid("id").primaryKey().defaultRandom(),
  owner: text("owner")
    .notNull()
    .references(() => users.clerkId, { onDelete: "cascade" }),
  body: text("body").notNull(),
})
