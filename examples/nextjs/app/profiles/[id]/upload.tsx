'use client'

import { avatarOf } from '@/lib/avatars'
import { useSupabase } from '@/lib/browser'
import { useRouter } from 'next/navigation'
import { type ChangeEvent, useState } from 'react'

// Storage's own status is a text beside the status of HTTP.
const FAILURES: Record<string, string> = {
  '403': 'You may not upload a picture.',
  '413': 'This picture is larger than 1 MB. Choose a smaller one.',
  '415': 'This is no picture in the form PNG, JPEG or WebP. Choose another one.',
}

/** Uploads a picture in place of the former one. The bucket checks its size and type, the policies check the folder. */
export function AvatarUpload({ userId }: { userId: string }) {
  const supabase = useSupabase()
  const router = useRouter()
  const [failure, setFailure] = useState('')

  async function upload(event: ChangeEvent<HTMLInputElement>) {
    const file = event.target.files?.[0]
    if (!file) return
    const stored = await supabase.storage.from('avatars').upload(avatarOf(userId), file, { upsert: true })
    const noted = stored.error ?? (await supabase.from('avatars').upsert({ changed_at: new Date() })).error
    setFailure(noted ? (FAILURES[stored.error?.statusCode ?? ''] ?? 'This picture was not saved. Try again.') : '')
    if (!noted) router.refresh()
  }

  return (
    <label>
      Your picture
      <input type="file" accept="image/png,image/jpeg,image/webp" onChange={upload} />
      <span className="failure" role="alert">
        {failure}
      </span>
    </label>
  )
}
