import { ownRow } from '@/lib/first-login'
import { supabaseOnServer } from '@/lib/server'
import type { Profile } from '@/lib/supabase'
import { Person } from '../person'

export const metadata = { title: 'People' }

export default async function ProfilesPage() {
  await ownRow()
  const { data, error } = await supabaseOnServer()
    .schema('clerk')
    .from('users_public')
    .select('clerk_id, username, first_name, last_name, avatar_url')
    .order('first_name')
    .limit(50)
    .returns<Profile[]>()
  if (error) throw error
  return (
    <>
      <h1>People</h1>
      <ul className="card list">
        {data.map((profile) => (
          <Person key={profile.clerk_id} profile={profile} />
        ))}
      </ul>
    </>
  )
}
