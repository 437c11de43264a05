'use client'

import { useActionState } from 'react'

type Action = (before: string, form: FormData) => Promise<string>

export function Form({ action }: { action: Action }) {
  const [failure, send, isSending] = useActionState(action, '')
  return (
    <form className="row" action={send}>
      <label className="grow">
        <span className="hidden">Title of a new document</span>
        <input name="title" placeholder="Title of a new document" required maxLength={200} autoComplete="off" />
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
