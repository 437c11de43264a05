'use server'

import { supabaseOnServer } from '@/lib/server'
import { revalidatePath } from 'next/cache'

/** The answer is a sentence for the person, or nothing after a success. The organization comes from the token. */
export async function addDocument(_: string, form: FormData): Promise<string> {
  const title = String(form.get('title')).trim()
  if (!title) return 'Write a title.'
  const { error } = await supabaseOnServer().from('documents').insert({ title })
  revalidatePath('/organization')
  if (error?.code === '42501') return 'Your role does not write documents here.'
  return error ? 'This was not saved. Try again.' : ''
}

export async function deleteDocument(id: number) {
  await supabaseOnServer().from('documents').delete().eq('id', id)
  revalidatePath('/organization')
}
