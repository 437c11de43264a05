import { withAvatars } from '@/lib/avatars'
import { ownRow } from '@/lib/first-login'
import { supabaseOnServer } from '@/lib/server'
import { nameOf, type Profile } from '@/lib/supabase'
import { notFound } from 'next/navigation'
import { Avatar } from '../../person'
import { AvatarUpload } from './upload'

export const metadata = { title: 'Profile' }

export default async function ProfilePage({ params }: { params: Promise<{ id: string }> }) {
  const me = await ownRow()
  const { id } = await params
  const supabase = supabaseOnServer()
  const { data, error } = await supabase
    .schema('clerk')
    .from('users_public')
    .select('clerk_id, username, first_name, last_name, avatar_url')
    .eq('clerk_id', id)
    .maybeSingle<Profile>()
  if (error) throw error
  if (!data) notFound()
  const [profile] = await withAvatars(supabase, [data])
  return (
    <article className="card profile">
      <Avatar name={nameOf(data)} url={profile.avatar_url} />
      <h1>{nameOf(data)}</h1>
      {data.username && <p className="muted">@{data.username}</p>}
      {data.clerk_id === me.clerk_id && (
        <>
          <p>Only you see your address: {me.email ?? 'it comes with the webhook'}.</p>
          <AvatarUpload userId={me.clerk_id} />
        </>
      )}
    </article>
  )
}
