'use client'

import { useActionState } from 'react'

type Action = (before: string, form: FormData) => Promise<string>

export function Form({ action, label = 'Title of a new document' }: { action: Action; label?: string }) {
  const [failure, send, isSending] = useActionState(action, '')
  return (
    <form className="row" action={send}>
      <label className="grow">
        <span className="hidden">{label}</span>
        <input name="title" placeholder={label} required maxLength={200} autoComplete="off" />
      </label>
      <button type="submit" disabled={isSending}>
        Add
      </button>
      <p className="failure" role="alert">
        {failure}
      </p>
    </form>
  )
}
