'use client'

import { useSupabase } from '@/lib/browser'
import type { Todo } from '@/lib/supabase'
import { useRouter } from 'next/navigation'
import { type FormEvent, useCallback, useState } from 'react'
import { useLive } from './live'

const COLUMNS = 'id, title, is_done'

/** The list as the server rendered it, then written to from the browser. No owner is sent: the token names the owner. */
export function TodoList({ initial }: { initial: Todo[] }) {
  const supabase = useSupabase()
  const [todos, setTodos] = useState(initial)
  const [failure, setFailure] = useState('')
  const { refresh } = useRouter()

  const load = useCallback(async () => {
    const { data } = await supabase.from('todos').select(COLUMNS).order('id').returns<Todo[]>()
    if (data) setTodos(data)
  }, [supabase])
  useLive(supabase, 'todos', load)

  function tell(error: { code: string } | null, words = 'This was not saved. Try again.') {
    setFailure(error ? words : '')
    // The policies say no, or show no such row: the page as the server renders it now tells a banned user why.
    if (error && ['42501', 'PGRST116'].includes(error.code)) refresh()
  }

  async function add(event: FormEvent<HTMLFormElement>) {
    event.preventDefault()
    const form = event.currentTarget
    const title = String(new FormData(form).get('title')).trim()
    if (!title) return setFailure('Write what is to be done.')
    const { data, error } = await supabase.from('todos').insert({ title }).select(COLUMNS).single<Todo>()
    tell(error)
    if (!data) return
    setTodos((before) => [...before, data])
    form.reset()
  }

  async function tick(todo: Todo) {
    const { data, error } = await supabase
      .from('todos')
      .update({ is_done: !todo.is_done })
      .eq('id', todo.id)
      .select(COLUMNS)
      .single<Todo>()
    tell(error)
    if (data) setTodos((before) => before.map((each) => (each.id === data.id ? data : each)))
  }

  async function remove(todo: Todo) {
    // With the deleted row asked for: a delete that the policies allow nobody to make is no error, and deletes nothing.
    const { error } = await supabase.from('todos').delete().eq('id', todo.id).select('id').single()
    tell(error, 'This was not deleted. Try again.')
    if (!error) setTodos((before) => before.filter((each) => each.id !== todo.id))
  }

  return (
    <section className="card" aria-label="Your to-dos">
      <form className="row" onSubmit={add}>
        <label className="grow">
          <span className="hidden">New to-do</span>
          <input name="title" placeholder="What is to be done?" required maxLength={200} autoComplete="off" />
        </label>
        <button type="submit">Add</button>
      </form>
      <p className="failure" role="alert">
        {failure}
      </p>
      {todos.length === 0 && <p className="muted">There is no to-do yet.</p>}
      <ul className="list" aria-live="polite">
        {todos.map((todo) => (
          <li key={todo.id} className="row">
            <label className={todo.is_done ? 'grow done' : 'grow'}>
              <input type="checkbox" checked={todo.is_done} onChange={() => tick(todo)} />
              {todo.title}
            </label>
            <button type="button" className="quiet" onClick={() => remove(todo)} aria-label={`Delete: ${todo.title}`}>
              Delete
            </button>
          </li>
        ))}
      </ul>
    </section>
  )
}
