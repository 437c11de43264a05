import { useAuth } from '@clerk/nextjs'
import { useMemo } from 'react'
import { supabaseFor } from './supabase'

/** For client components: one client for the signed-in user. The server renders these components too, without a token. */
export function useSupabase() {
  const { getToken } = useAuth()
  return useMemo(() => supabaseFor(async () => (typeof window === 'undefined' ? null : getToken())), [getToken])
}
