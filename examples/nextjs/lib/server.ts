import { auth } from '@clerk/nextjs/server'
import { supabaseFor } from './supabase'

/** For server components and server actions: Supabase as the user of this request. */
export function supabaseOnServer() {
  return supabaseFor(async () => (await auth()).getToken())
}
