'use client'

import { useRouter } from 'next/navigation'
import { useEffect } from 'react'

const TIMES = 15

/** Renders the page again every two seconds, for half a minute: a webhook may be on its way. */
export function LookAgain() {
  const { refresh } = useRouter()
  useEffect(() => {
    let left = TIMES
    const timer = setInterval(() => (left-- > 0 ? refresh() : clearInterval(timer)), 2000)
    return () => clearInterval(timer)
  }, [refresh])
  return null
}
