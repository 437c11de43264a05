'use server'

import { supabaseOnServer } from '@/lib/server'
import { revalidatePath } from 'next/cache'

/** The answer is a sentence for the person, or nothing after a success. No `has()` here: the policies ask the token. */
export async function addReport(_: string, form: FormData): Promise<string> {
  const title = String(form.get('title')).trim()
  if (!title) return 'Write a title.'
  const { error } = await supabaseOnServer().from('reports').insert({ title })
  revalidatePath('/reports')
  if (error?.code === '42501') return 'Your organization has no plan with reports.'
  return error ? 'This was not saved. Try again.' : ''
}
