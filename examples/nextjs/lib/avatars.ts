import type { SupabaseClient } from '@supabase/supabase-js'
import type { Profile } from './supabase'

export const avatarOf = (userId: string) => `${userId}/avatar`

/** The profiles, with the uploaded picture instead of Clerk's. A new picture has a new address: nobody sees an old copy. */
export async function withAvatars(supabase: SupabaseClient, profiles: Profile[]): Promise<Profile[]> {
  const ids = profiles.map((each) => each.clerk_id)
  const { data } = await supabase.from('avatars').select('user_id, changed_at').in('user_id', ids)
  const bucket = supabase.storage.from('avatars')
  return profiles.map((profile) => {
    const avatar = data?.find((each) => each.user_id === profile.clerk_id)
    if (!avatar) return profile
    const { data: address } = bucket.getPublicUrl(avatarOf(profile.clerk_id))
    return { ...profile, avatar_url: `${address.publicUrl}?version=${Date.parse(avatar.changed_at)}` }
  })
}
