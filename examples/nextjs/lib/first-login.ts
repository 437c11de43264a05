import { auth } from '@clerk/nextjs/server'
import { redirect } from 'next/navigation'
import { cache } from 'react'
import { supabaseOnServer } from './server'

export type OwnRow = {
  clerk_id: string
  username: string | null
  first_name: string | null
  last_name: string | null
  email: string | null
  avatar_url: string | null
}

/**
 * The user's own row, also in the first second after the sign-up, when Clerk's webhook is still on its way. Pages that
 * need a user begin with this function: it sends strangers to the sign-in, and banned or deleted users to /no-access.
 */
export const ownRow = cache(async (): Promise<OwnRow> => {
  await auth.protect()
  const row = process.env.SESSION_URL ? await askSession(process.env.SESSION_URL) : await insertOwnId()
  if (!row) redirect('/no-access')
  return row
})

/** `POST /session` of the stack: the whole row, or null for 403. */
async function askSession(url: string, attempts = 3): Promise<OwnRow | null> {
  const { getToken } = await auth()
  const answer = await fetch(url, {
    method: 'POST',
    headers: { Authorization: `Bearer ${await getToken()}` },
    cache: 'no-store',
  })
  if (answer.ok) return answer.json()
  if (answer.status === 403) return null
  if (attempts === 1) throw new Error(`POST /session answered ${answer.status}`)
  await new Promise((resolve) => setTimeout(resolve, 2000))
  return askSession(url, attempts - 1)
}

/** Without `POST /session`: a row with the id alone, which the webhook completes; null if the policies say no. */
async function insertOwnId(): Promise<OwnRow | null> {
  const { userId } = await auth()
  const users = supabaseOnServer().schema('clerk').from('users')
  const { error } = await users.upsert({ clerk_id: userId }, { onConflict: 'clerk_id', ignoreDuplicates: true })
  if (error && error.code !== '42501') throw error
  const { data } = await users.select('clerk_id, username, first_name, last_name, email, avatar_url').maybeSingle()
  return data
}
