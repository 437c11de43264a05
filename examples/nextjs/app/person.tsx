import { nameOf, type Profile } from '@/lib/supabase'
import Link from 'next/link'
import type { ReactNode } from 'react'

/** A line of a list of people. */
export function Person({ profile, children }: { profile: Profile; children?: ReactNode }) {
  const name = nameOf(profile)
  return (
    <li className="row">
      <Avatar name={name} url={profile.avatar_url} />
      <Link className="grow" href={`/profiles/${profile.clerk_id}`}>
        {name}
      </Link>
      {children}
    </li>
  )
}

/** The picture of a person; their initial, while the picture is on its way or cannot be loaded. */
export function Avatar({ name, url }: { name: string; url: string | null }) {
  return (
    <span className="avatar" aria-hidden>
      {name.slice(0, 1)}
      {url && <span style={{ backgroundImage: `url(${JSON.stringify(url)})` }} />}
    </span>
  )
}
