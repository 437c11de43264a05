import { ownRow } from '@/lib/first-login'
import { supabaseOnServer } from '@/lib/server'
import type { Report } from '@/lib/supabase'
import { auth } from '@clerk/nextjs/server'
import { Form } from '../organization/form'
import { addReport } from './actions'

export const metadata = { title: 'Reports' }

/** `has()` chooses what the page shows. The policies of the table ask for the same feature: they decide who reads. */
export default async function ReportsPage() {
  await ownRow()
  const { has } = await auth()
  if (!has({ feature: 'org:reports' })) return <ForSubscribers />
  const { data, error } = await supabaseOnServer().from('reports').select('id, title').order('id').returns<Report[]>()
  if (error) throw error
  return (
    <>
      <h1>Reports</h1>
      <section className="card">
        <Form action={addReport} label="Title of a new report" />
        {data.length === 0 && <p className="muted">There is no report.</p>}
        <ul className="list">
          {data.map((each) => (
            <li key={each.id} className="row">
              {each.title}
            </li>
          ))}
        </ul>
      </section>
    </>
  )
}

function ForSubscribers() {
  return (
    <>
      <h1>Reports</h1>
      <p className="lead">
        Organizations whose plan has the feature <code>reports</code> read reports here. Choose such an organization at the
        top of the page; a new plan counts after a minute at most.
      </p>
    </>
  )
}
