// A program of an app with tables of its own beside the mirror. TypeScript compiles it; nothing runs it.
import { createClient } from "@supabase/supabase-js"
import type { Database as Mirror } from "./clerk-types.ts"

type Nothing = { [_ in never]: never }
type App = {
  __InternalSupabase: { PostgrestVersion: "12" }
  public: {
    Tables: {
      notes: {
        Row: { id: string; body: string }
        Insert: { id?: string; body: string }
        Update: { body?: string }
        Relationships: []
      }
    }
    Views: Nothing
    Functions: Nothing
    Enums: Nothing
    CompositeTypes: Nothing
  }
}

const supabase = createClient<App & Mirror>("http://127.0.0.1", "key")
const mirror = supabase.schema("clerk")

export async function reads(): Promise<void> {
  const users = await mirror.from("users").select("clerk_id, email, email_verified, plan, theme").single()
  if (users.data) {
    const id: string = users.data.clerk_id
    const email: string | null = users.data.email
    const plan: "free" | 'the "pro" one' = users.data.plan
    // @ts-expect-error - an address may be missing
    const address: string = users.data.email
    // @ts-expect-error - a column that was not asked for
    const phone = users.data.phone
    void [id, email, plan, address, phone]
  }
  const members = await mirror.from("organization_memberships").select("role, organizations(name), member(username)")
  const name: string | null | undefined = members.data?.[0]?.organizations.name
  const username: string | null | undefined = members.data?.[0]?.member?.username
  const people = await supabase.from("users_public").select("clerk_id")
  const person: string | undefined = people.data?.[0]?.clerk_id
  const asked = await mirror.rpc("requesting_user_has_permission", { permission: "org:docs:read" })
  const may: boolean | null = asked.data
  const row: Mirror["clerk"]["Tables"]["users"]["Row"]["doubled"] = 4
  const notes = await supabase.from("notes").select("body")
  void [name, username, person, may, row, notes]
}

export async function writes(): Promise<void> {
  await mirror.from("users").insert({ clerk_id: "user_1" })
  await mirror.from("users").update({ theme: "dark" }).eq("clerk_id", "user_1")
  await supabase.from("notes").insert({ body: "hello" })
}

export async function mistakes(): Promise<void> {
  // @ts-expect-error - no policy lets a user write a name
  await mirror.from("users").insert({ clerk_id: "user_1", username: "root" })
  // @ts-expect-error - the first login needs the id
  await mirror.from("users").insert({})
  // @ts-expect-error - no policy lets a user change a name
  await mirror.from("users").update({ username: "root" })
  // @ts-expect-error - no policy lets a user write an organization
  await mirror.from("organizations").insert({ clerk_org_id: "org_1" })
  // @ts-expect-error - the table has another schema
  await supabase.from("users").select("clerk_id")
  // @ts-expect-error - a view of the app's own: Supabase's generator knows its columns
  await supabase.from("members").select("role")
  // @ts-expect-error - the machinery is not served
  supabase.schema("clerk_sync")
  // @ts-expect-error - there is no such function
  await mirror.rpc("requesting_user_ids")
}
