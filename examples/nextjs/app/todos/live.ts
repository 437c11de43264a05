import type { SupabaseClient } from '@supabase/supabase-js'
import { useEffect } from 'react'

/**
 * Calls `onChange` when a row that the user may read changes, in this browser or another one. Off unless
 * NEXT_PUBLIC_REALTIME is `on`, because the table has to be published first: see the README.
 */
export function useLive(supabase: SupabaseClient, table: string, onChange: () => void) {
  useEffect(() => {
    if (process.env.NEXT_PUBLIC_REALTIME !== 'on') return
    const channel = supabase.channel(table).on('postgres_changes', { event: '*', schema: 'public', table }, onChange)
    let isLeft = false
    // Only after setAuth() without a token does supabase-js ask for a new token at each heartbeat. Changes from before
    // the subscription, or from before a new connection, are not sent: look again.
    supabase.realtime.setAuth().then(() => {
      if (!isLeft) channel.subscribe((status) => status === 'SUBSCRIBED' && onChange())
    })
    return () => {
      isLeft = true
      supabase.removeChannel(channel)
    }
  }, [supabase, table, onChange])
}
