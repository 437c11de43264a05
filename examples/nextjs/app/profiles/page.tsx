import { withAvatars } from '@/lib/avatars'
import { ownRow } from '@/lib/first-login'
import { supabaseOnServer } from '@/lib/server'
import type { Profile } from '@/lib/supabase'
import Link from 'next/link'
import { Person } from '../person'

export const metadata = { title: 'People' }

export default async function ProfilesPage() {
  const me = await ownRow()
  const supabase = supabaseOnServer()
  const { data, error } = await supabase
    .schema('clerk')
    .from('users_public')
    .select('clerk_id, username, first_name, last_name, avatar_url')
    .order('first_name')
    .limit(50)
    .returns<Profile[]>()
  if (error) throw error
  const profiles = await withAvatars(supabase, data)
  return (
    <>
      <h1>People</h1>
      <p>
        <Link href={`/profiles/${me.clerk_id}`}>Your profile</Link>
      </p>
      <ul className="card list">
        {profiles.map((profile) => (
          <Person key={profile.clerk_id} profile={profile} />
        ))}
      </ul>
    </>
  )
}
