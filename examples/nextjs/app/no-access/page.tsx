import { SignOutButton } from '@clerk/nextjs'
import Link from 'next/link'

export const metadata = { title: 'No access' }

/**
 * A banned, deprovisioned or deleted user comes here: the token may live for a minute, but the rows are hidden. So does
 * a user of whom Clerk's API does not know yet.
 */
export default function NoAccessPage() {
  return (
    <section className="card">
      <h1>You have no access</h1>
      <p>Your account was closed or suspended. Ask the people who run this app.</p>
      <p>
        Did you sign up a moment ago? <Link href="/todos">Try again</Link> in a few seconds.
      </p>
      <SignOutButton redirectUrl="/">
        <button type="button">Sign out</button>
      </SignOutButton>
    </section>
  )
}
