import { ownRow } from '@/lib/first-login'
import { supabaseOnServer } from '@/lib/server'
import { nameOf, type Todo } from '@/lib/supabase'
import { TodoList } from './list'

export const metadata = { title: 'To-dos' }

export default async function TodosPage() {
  const me = await ownRow()
  const { data, error } = await supabaseOnServer()
    .from('todos')
    .select('id, title, is_done')
    .order('id')
    .returns<Todo[]>()
  if (error) throw error
  return (
    <>
      <h1>To-dos of {nameOf(me)}</h1>
      <TodoList initial={data} />
    </>
  )
}
