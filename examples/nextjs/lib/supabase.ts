import { createClient } from '@supabase/supabase-js'

/**
 * Supabase with Clerk's session token. The client calls `getToken` at every request and at each heartbeat of Realtime,
 * so a token that lives for a minute is always fresh.
 */
export function supabaseFor(getToken: () => Promise<string | null>) {
  return createClient(process.env.NEXT_PUBLIC_SUPABASE_URL!, process.env.NEXT_PUBLIC_SUPABASE_KEY!, {
    accessToken: getToken,
  })
}

export type Todo = { id: number; title: string; is_done: boolean }
export type Profile = {
  clerk_id: string
  username: string | null
  first_name: string | null
  last_name: string | null
  avatar_url: string | null
}
export type Member = { role: string; profile: Profile | null }
export type Document = { id: number; title: string; created_at: string }
export type Report = { id: number; title: string }

export function nameOf(profile: Omit<Profile, 'avatar_url' | 'clerk_id'> | null) {
  const names = [profile?.first_name, profile?.last_name].filter(Boolean).join(' ')
  return names || profile?.username || 'Somebody without a name'
}
