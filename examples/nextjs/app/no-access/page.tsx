import { SignOutButton } from '@clerk/nextjs'

export const metadata = { title: 'No access' }

/** A banned, deprovisioned or deleted user comes here: the token may live for a minute, but the rows are hidden. */
export default function NoAccessPage() {
  return (
    <section className="card">
      <h1>You have no access</h1>
      <p>Your account was closed or suspended. Ask the people who run this app.</p>
      <SignOutButton redirectUrl="/">
        <button type="button">Sign out</button>
      </SignOutButton>
    </section>
  )
}
