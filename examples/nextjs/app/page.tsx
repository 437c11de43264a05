import Link from 'next/link'

export default function Home() {
  return (
    <>
      <h1>A small app on Clerk and Supabase</h1>
      <p className="lead">
        People sign in with Clerk. Their rows lie in Supabase, and the policies of the database decide who sees which.
      </p>
      <ul className="cards">
        <li className="card">
          <h2>
            <Link href="/todos">To-dos</Link>
          </h2>
          <p>A list that only its owner sees.</p>
        </li>
        <li className="card">
          <h2>
            <Link href="/profiles">People</Link>
          </h2>
          <p>Public profiles: a name and a picture, and no address.</p>
        </li>
        <li className="card">
          <h2>
            <Link href="/organization">Organization</Link>
          </h2>
          <p>Members and documents; the role decides who writes.</p>
        </li>
        <li className="card">
          <h2>
            <Link href="/reports">Reports</Link>
          </h2>
          <p>For organizations whose plan has the feature.</p>
        </li>
      </ul>
    </>
  )
}
