import { ownRow } from '@/lib/first-login'
import { supabaseOnServer } from '@/lib/server'
import type { Document, Member } from '@/lib/supabase'
import { auth } from '@clerk/nextjs/server'
import { Person } from '../person'
import { addDocument, deleteDocument } from './actions'
import { Form } from './form'
import { LookAgain } from './look-again'

export const metadata = { title: 'Organization' }

export default async function OrganizationPage() {
  const me = await ownRow()
  const { orgId } = await auth()
  if (!orgId) return <NoOrganization />
  const supabase = supabaseOnServer()
  const clerk = supabase.schema('clerk')
  const [organization, members, documents] = await Promise.all([
    clerk.from('organizations').select('name').eq('clerk_org_id', orgId).maybeSingle<{ name: string }>(),
    clerk
      .from('organization_memberships')
      .select('role, profile(clerk_id, username, first_name, last_name, avatar_url)')
      .eq('clerk_org_id', orgId)
      .order('role')
      .returns<Member[]>(),
    supabase.from('documents').select('id, title, created_at').order('id').returns<Document[]>(),
  ])
  for (const { error } of [organization, members, documents]) if (error) throw error
  if (!organization.data) return <NotYetAMember />
  // The page hides what the policies would reject anyway: the role in the database counts, not the one in the token.
  const role = members.data?.find((each) => each.profile?.clerk_id === me.clerk_id)?.role ?? ''
  return (
    <>
      <h1>{organization.data.name}</h1>
      <section className="card" aria-labelledby="documents">
        <h2 id="documents">Documents</h2>
        {['org:admin', 'org:editor'].includes(role) ? (
          <Form action={addDocument} />
        ) : (
          <p className="muted">Your role reads documents; administrators and editors write them.</p>
        )}
        {documents.data?.length === 0 && <p className="muted">There is no document.</p>}
        <ul className="list">
          {documents.data?.map((each) => (
            <li key={each.id} className="row">
              <span className="grow">{each.title}</span>
              {role === 'org:admin' && (
                <form action={deleteDocument.bind(null, each.id)}>
                  <button type="submit" className="quiet" aria-label={`Delete: ${each.title}`}>
                    Delete
                  </button>
                </form>
              )}
            </li>
          ))}
        </ul>
      </section>
      <section className="card" aria-labelledby="members">
        <h2 id="members">Members</h2>
        <ul className="list">
          {members.data?.map(
            ({ role, profile }) =>
              profile && (
                <Person key={profile.clerk_id} profile={profile}>
                  <span className="tag">{role.replace('org:', '')}</span>
                </Person>
              ),
          )}
        </ul>
      </section>
    </>
  )
}

function NoOrganization() {
  return (
    <>
      <h1>Organization</h1>
      <p className="lead">You work alone at the moment. Choose or create an organization at the top of the page.</p>
    </>
  )
}

/** The token names the organization already, and the webhook with the membership is on its way; or was it removed? */
function NotYetAMember() {
  return (
    <>
      <h1>Organization</h1>
      <p className="lead">
        The database does not know you as a member of this organization: you have joined a moment ago, or you were
        removed.
      </p>
      <LookAgain />
    </>
  )
}
